"""A stand-in for a Qdrant server, in a process of its own, that throws away what is sent to it."""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from typing import Any

import grpc
from qdrant_client.grpc import PointsOperationResponse, UpdateResult, UpdateStatus

from tests.index import wire


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
    def discard(_self: Any, _request: Any, _context: grpc.ServicerContext) -> PointsOperationResponse:
        return PointsOperationResponse(result=UpdateResult(status=UpdateStatus.Completed))

    wire._Points.Upsert = discard  # type: ignore[method-assign, assignment]
    server = wire.StandIn()
    pipe.send(server.port)
    pipe.poll(None)
    server.stop()
