"""The ledger of a server's index, kept in a collection beside it so that every machine knows what any of them did.

Imports :mod:`index.ledger`, :mod:`index.address`, :mod:`index.engines.connection` and :mod:`model.errors`.
"""
