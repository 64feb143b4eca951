"""A network that costs nothing: constant features from a table, so that a job shows what the rest of it costs.

``python -m tests.benchmarks.free ARCHIVE INDEX MODEL OUTPUT`` is a job with it, in a process of its own; the layers and
classes are those of the model. Where a job's processor time goes is noted by the kind of its processes.
"""

from __future__ import annotations

import json
import sys
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import numpy as np
import psutil
import pyarrow as pa

from index.address import parse_address
from model.network.embedder import Embeddings
from model.network.heads import default_layers, model_layers
from model.network.metadata import read_metadata
from workers.indexing import pipeline, streaming
from workers.indexing.job import index_archive
from workers.indexing.settings import JobObserver, JobSettings, Machine, Progress
from workers.indexing.stages import EmbeddingActor, Keeper, Network

TABLE_ROWS = 512

ONE_ACTOR = Machine(actors=(1, 1))

WARM_SHARE, LAST_SHARE = 0.3, 0.8
"""Of all images, those between which a job is measured: after its start, and before its last shards run out."""


class FreeActor(EmbeddingActor):
    """An embedding actor whose network is a table."""

    def __init__(
        self,
        network: Network,
        device: str,
        threads: int,
        counters: Any,
        keepers: Mapping[str, Any] | None = None,
    ) -> None:
        path = Path(network.path)
        self._layers, self._counters = network.layers, counters
        self._keeper = Keeper(keepers) if keepers else None
        self._embedder: Any = SimpleNamespace(
            layers=model_layers(path), preparation=network.prepare, embed=_Table(path).embed
        )


class _Table:
    def __init__(self, model: Path) -> None:
        rng = np.random.default_rng(0)
        self._features = {
            layer: np.maximum(rng.normal(0, 1, (TABLE_ROWS, values)), 0).astype(np.float32)
            for layer, values in model_layers(model).items()
        }
        classes = len(read_metadata(model).classes)
        self._probabilities = rng.dirichlet(np.ones(classes), TABLE_ROWS).astype(np.float32)

    def embed(self, images: Any, layers: tuple[str, ...]) -> Embeddings:
        """The first rows of the table."""
        count = len(images)
        features = {layer: self._features[layer][:count] for layer in layers}
        return Embeddings(self._probabilities[:count], features, np.ones(count, bool))


class Spent(JobObserver):
    """Notes points stored and processor time spent, at each moment of a job."""

    def __init__(self) -> None:
        self.moments: list[tuple[float, int, dict[str, float]]] = []

    def progress(self, progress: Progress) -> None:
        """Note one moment."""
        if progress.sink:
            self.moments.append((time.time(), progress.sink.points, processor_seconds()))


def processor_seconds() -> dict[str, float]:
    """Processor time of this process and its descendants so far, by what they are."""
    spent: defaultdict[str, float] = defaultdict(float)
    me = psutil.Process()
    for process in (me, *me.children(recursive=True)):
        try:
            times, name = process.cpu_times(), "driver" if process == me else _kind(process)
        except psutil.Error:
            continue
        spent[name] += times.user + times.system
    return dict(spent)


_KINDS = (("ReadRepo", "decode"), ("MapWorker", "embed"), ("StoringActor", "store"), ("raylet/raylet", "raylet"))

_decoders: set[int] = set()
"""Processes that were seen to decode: between two tasks they have another name."""


def _kind(process: psutil.Process) -> str:
    text = " ".join(process.cmdline()) or process.name()
    kind = next((kind for part, kind in _KINDS if part in text), "ray")
    if kind == "decode":
        _decoders.add(process.pid)
    return "decode" if process.pid in _decoders else kind


def main(archive: str, index: str, model: str, output: str, machine: Machine = ONE_ACTOR) -> None:
    """Index, and write how fast it went and what it took, once it was running, and what came to this process."""
    spent, path = Spent(), Path(model)
    started = time.time()
    settings = JobSettings((archive,), parse_address(index), path, default_layers(path), machine=machine)
    received = [0]

    def counted(*arguments: Any, **more: Any) -> Iterator[pa.Table]:
        for table in pipeline.run_pipeline(*arguments, **more):
            received[0] += table.nbytes
            yield table

    with patch.object(pipeline, "EmbeddingActor", FreeActor), patch.object(streaming, "run_pipeline", counted):
        report = index_archive(settings, spent)
    ended = time.time()
    first = next(moment for moment in spent.moments if moment[1] >= WARM_SHARE * report.points)
    last = next(moment for moment in spent.moments if moment[1] >= LAST_SHARE * report.points)
    images = last[1] - first[1]
    took = {kind: (last[2][kind] - first[2].get(kind, 0.0)) / images * 1e3 for kind in last[2]}
    values = {
        "rate": images / (last[0] - first[0]),
        "milliseconds": took,
        "seconds": ended - started,
        "bytes": received[0] / report.points,
    }
    Path(output).write_text(json.dumps(values))


if __name__ == "__main__":
    archive, index, model, output = sys.argv[1:5]
    main(archive, index, model, output)
