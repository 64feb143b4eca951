"""Snapshots: a server's own backup of a collection, kept on the server."""

from __future__ import annotations

from index.address import ServerAddress
from index.engines.connection import EntryNodes, is_missing, server_errors
from model.errors import NotAnIndexError

TIMEOUT_SECONDS = 3600
"""A server answers when the snapshot is written: gigabytes."""


def make_snapshot(address: ServerAddress) -> str:
    """Let the server write a snapshot of the collection; return its name there.

    On a cluster this is one of the node that answers: make one on each.

    Raises:
        NotAnIndexError: there is no such collection.
        VectorIndexError: the server cannot be reached, or refuses.
    """
    client = EntryNodes(address).client(timeout=TIMEOUT_SECONDS)
    try:
        with server_errors(str(address)):
            try:
                made = client.create_snapshot(address.collection, wait=True)
            except Exception as error:
                if is_missing(error):
                    raise NotAnIndexError(f"{address} does not exist: check the collection's name") from error
                raise
        assert made is not None
        return made.name
    finally:
        client.close()
