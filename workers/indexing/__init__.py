"""An indexing job: from archives to planned files, through Ray Data's pipeline, into the sink and the report.

Imports :mod:`index`, :mod:`model` and :mod:`workers.cluster`. ray, pyarrow and torch are imported when a job really has
something to embed, so that a run with nothing to do takes no longer than its directory walk.
"""
