"""Labelled datasets from public archives: classes as queries, a plan, its images, and splits by patient.

May import: the standard library, third-party packages and the rest of ``model``. Nothing in ``model`` but this package
needs what the extra ``cbmir[dataset]`` installs.
"""
