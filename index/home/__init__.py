"""What lies in an index's folder beside its points: its description, lock, privacy key and the mark of a copy.

Imports :mod:`index.schema` and :mod:`model.errors`.
"""
