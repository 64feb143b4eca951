"""An indexing job's own stages, one after another in this process: for tests of what a job keeps, moves and removes.

Ray has no part in that, and would take nine tenths of their time. What it does with the stages is tested elsewhere.
``python -m tests.support.in_process ARGUMENTS`` is ``cbmir ARGUMENTS`` with such jobs.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any, Self

import pyarrow as pa
import pytest

from index.address import Address
from model.errors import ImageError
from workers.cluster import Resources, share_resources
from workers.guarded import deadline
from workers.indexing.counters import Counters, StageCounts
from workers.indexing.decoding import decode_file
from workers.indexing.fetching import fetched
from workers.indexing.manners import Manners
from workers.indexing.pipeline import RepositorySource
from workers.indexing.rows import frames_schema, left_out_row, to_table
from workers.indexing.settings import Machine
from workers.indexing.stages import EmbeddingActor, Network


class InProcessSession:
    """Stands where :class:`workers.indexing.session.Session` starts or joins Ray."""

    storing: Mapping[str, Any] = {}

    def __init__(self, machine: Machine, _server: Address | None, manners: Manners) -> None:
        self.resources = share_resources(2, 0, actors=(1, 1), actor_gpus=machine.gpus, batch_size=machine.batch_size)
        self.counters = Counters(manners)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def counts(self) -> StageCounts:
        """The stages' totals so far."""
        return self.counters.counts()

    def renew(self) -> None:
        """Nothing has to be shared anew."""


def run_in_process(
    source: RepositorySource,
    network: Network,
    _resources: Resources,
    counters: Counters,
    _keepers: Mapping[str, Any],
    *,
    debug: bool,
) -> Iterator[pa.Table]:
    """Stands where :func:`workers.indexing.pipeline.run_pipeline` has Ray Data run the stages."""
    embed = _actor(network)
    for shard in source.shards:
        started, rows, left_out = time.perf_counter(), [], 0
        for number, place in fetched(shard.files, shard.access, counters.turn):
            if isinstance(place, ImageError):
                of_file = [left_out_row(number, place.reason, place.detail)]
            else:
                of_file = decode_file(number, place, shard.file_seconds, shard.options, shard.prepare)
            deadline.cancel()
            left_out += of_file[0]["frame"] == 0
            rows += of_file
        frames, decoded = sum("reason" not in row for row in rows), time.perf_counter()
        counters.decoded(frames, left_out, decoded - started)
        table = embed(to_table(rows, frames_schema(shard.prepare)))
        counters.embedded(frames, time.perf_counter() - decoded)
        yield table


_ACTORS: dict[str, EmbeddingActor] = {}


def _actor(network: Network) -> EmbeddingActor:
    """The network, loaded once; the last four stay."""
    if str(network) not in _ACTORS:
        nobody: Any = SimpleNamespace(embedded=SimpleNamespace(remote=lambda _frames, _seconds: None))
        _ACTORS[str(network)] = EmbeddingActor(network, "cpu", 1, nobody)
        for oldest in list(_ACTORS)[:-4]:
            del _ACTORS[oldest]
    return _ACTORS[str(network)]


@contextmanager
def jobs_in_process() -> Iterator[None]:
    """Have jobs run so until the context ends."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("workers.indexing.streaming.Session", InProcessSession)
        patch.setattr("workers.indexing.streaming.run_pipeline", run_in_process)
        yield


if __name__ == "__main__":
    from cli.app import run

    with jobs_in_process():
        sys.exit(run(sys.argv[1:]))
