"""The application behind ``cbmir serve``: a page to look and ask on, and an API, over a warm model and an open index.

Imports ``index``, ``model`` and :mod:`workers.guarded`; only :mod:`workers.serving.replicas` knows Ray.
"""
