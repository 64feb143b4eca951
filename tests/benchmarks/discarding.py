"""A stand-in for a Qdrant server, in a process of its own, that throws away what is sent to it."""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection

from tests.index.wire import StandIn


@contextmanager
def discarding_server() -> Iterator[int]:
    """Start it; give its gRPC port."""
    ours, theirs = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(target=_serve, args=(theirs,), daemon=True)
    process.start()
    try:
        yield ours.recv()
    finally:
        process.terminate()
        process.join()


def _serve(pipe: Connection) -> None:
    server = StandIn(discards=True)
    pipe.send(server.port)
    pipe.poll(None)
    server.stop()
