"""What runs on Ray: its start and its cluster, and the indexing job. The only package that knows Ray.

Imports ``index`` and ``model``.
"""
