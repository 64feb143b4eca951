"""The upload path's client CPU: vectors a second and core, over the same points sent as ``PointStruct`` lists.

``python -m tests.benchmarks.uploading``. The server throws away what arrives, in another process, which is not counted.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from qdrant_client.models import PointStruct

from index.address import parse_address
from index.engines.connection import connect
from index.opening import create_index
from index.schema import Point
from tests.benchmarks.figures import Figure, print_figures
from tests.index.conftest import describe, make_points
from tests.support.stand_in.process import StandInProcess

BATCH = 256
"""Points of one upsert, as the job's sink sends them."""

STRUCTS = 192
"""Points of one ``PointStruct`` upsert: what gRPC takes by default."""

ROUNDS = 20


def run() -> list[Figure]:
    """Both ways by turns, the same points."""
    points = make_points(BATCH)
    with tempfile.TemporaryDirectory() as state, StandInProcess(Path(state, "server"), discards=True) as server:
        os.environ["CBMIR_STATE"] = state
        address = parse_address(f"http://127.0.0.1:1/benchmark?grpc_port={server.port}")
        assert address.server
        client = connect(address.server)
        with create_index(address, describe(), purpose="benchmark") as index:

            def arrays() -> None:
                index.upsert(points)

            def structs() -> None:
                for start in range(0, len(points), STRUCTS):
                    client.upsert("benchmark", [_struct(point) for point in points[start : start + STRUCTS]])

            arrays()
            structs()  # channels and caches
            turns = [(core_seconds(arrays), core_seconds(structs)) for _ in range(ROUNDS)]
        client.close()
    ours, lists = len(points) / np.median(turns, axis=0)
    text = f"{ours:,.0f} vectors/s and core"
    return [Figure("upload of 4096-d points", text, f"PointStruct lists {lists:,.0f}", ours / lists, ">= 3")]


def core_seconds(send: Callable[[], None]) -> float:
    """Processor time of this process, all of its threads together, for one call."""
    started = time.process_time()
    send()
    return time.process_time() - started


def _struct(point: Point) -> PointStruct:
    vectors = {layer: vector.tolist() for layer, vector in point.vectors.items()}
    return PointStruct(id=str(point.id), vector=vectors, payload=point.payload.to_dict())


if __name__ == "__main__":
    print_figures(run())
