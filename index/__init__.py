"""The index of embedded images: its schema, its engines, search, and retrieval measures.

Imports ``model`` for its plain types and errors; is handed an embedder rather than importing torch; knows no Ray.
"""
