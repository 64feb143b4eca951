"""Bulk indexing: discovery, the Ray Data pipeline, the upserting sink, the job ledger and the job report.

The only package that knows Ray. Imports ``index`` and ``model``; ray, pyarrow and torch are imported when a job really
has something to embed, so that a run with nothing to do takes no longer than its directory walk.
"""
