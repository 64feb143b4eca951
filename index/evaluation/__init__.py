"""Retrieval evaluated as in the paper's section 4.3: rankings through the real index, and their measures.

Imports :mod:`model`, and the engines through :mod:`index.opening`.
"""
