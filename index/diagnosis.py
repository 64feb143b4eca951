"""Whether this machine can store an index: the engine, its disk, and a Qdrant server if one is named."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import replace
from importlib import import_module
from importlib.metadata import version
from pathlib import Path

from index.address import ServerAddress
from index.engines.edge import MIN_FREE_BYTES
from model.diagnosis import Check
from model.errors import VectorIndexError


def check_engine() -> Iterator[Check]:
    """The embedded engine."""
    try:
        import_module("qdrant_edge")
    except ImportError as error:
        yield Check("Qdrant Edge", "lacking", f"cannot be imported: {error}", "pip install qdrant-edge-py")
        return
    yield Check("Qdrant Edge", "fine", version("qdrant-edge-py"))


def check_disk(folder: Path) -> Iterator[Check]:
    """Free space where an index lies, or would be made."""
    place = next(parent for parent in (folder, *folder.parents) if parent.exists())
    free = shutil.disk_usage(place).free
    points = max(0, free - MIN_FREE_BYTES) // 12_500
    detail = f"{free / 2**30:,.1f} GB free under {place}, room for about {points:,} images of one layer"
    if free < MIN_FREE_BYTES:
        yield Check("disk", "lacking", detail, "make room, or put the index elsewhere with --index")
    else:
        yield Check("disk", "fine", detail)


def check_server(address: ServerAddress, api_key: str | None) -> Iterator[Check]:
    """Check over gRPC that a Qdrant server answers, accepts the API key, and has a version that suits the client's.

    The two may be one minor version apart. Of a cluster each entry node is checked.
    """
    for entry in address.entries:
        yield from _check_node(entry, api_key)


def _check_node(address: ServerAddress, api_key: str | None) -> Iterator[Check]:
    from index.engines.connection import connect, server_errors

    name, client_version = f"Qdrant server {address}", version("qdrant-client")
    client = connect(replace(address, api_key=api_key or address.api_key), timeout=5)
    try:
        with server_errors(str(address)):
            found = client.info().version
            client.collection_exists(address.collection)  # the version is told without a key
    except VectorIndexError as error:
        yield Check(name, "lacking", f"no answer: {error}", "start it, or correct the address, port or key")
        return
    finally:
        client.close()
    detail = f"{found}, client {client_version}"
    theirs, ours = (tuple(int(part) for part in text.split(".")[:2]) for text in (found, client_version))
    if theirs[0] != ours[0] or abs(theirs[1] - ours[1]) > 1:
        yield Check(name, "note", detail, "bring server and client to the same minor version")
    else:
        yield Check(name, "fine", detail)
