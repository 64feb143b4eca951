"""A million synthetic features in the embedded index: loading, the graph, memory, time and recall of a search.

``python -m tests.benchmarks.million [--features INDEX] [--points 1000000] [--work FOLDER]``. Each synthetic feature
lies between two real ones of the same organ, with noise, so that their shape (sparse, in clusters) is that of INDEX, of
its first layer; without it phantom clusters of the tests are taken. Features of length one, as those of heads, stay so.
"""

from __future__ import annotations

import argparse
import multiprocessing
import shutil
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from index.address import parse_address
from index.opening import create_index, open_index
from index.schema import Location, Payload, Point, point_id
from model.images.frames import Header
from tests.benchmarks.figures import Figure, print_figures, print_machine
from tests.benchmarks.memory import Sampler
from tests.benchmarks.neighbours import measure
from tests.index.conftest import describe, make_points

BATCH = 256
NOISE = 0.25
"""Standard deviation of the factor on every component."""


def real_features(folder: Path | None) -> dict[str, NDArray[np.float32]]:
    """By organ, ``(n, values)``."""
    by_organ: dict[str, list[NDArray[np.float32]]] = {}
    if folder is None:
        points: Iterator[Point] = iter(make_points(600))
    else:
        index = open_index(parse_address(folder), purpose="benchmark")
        points = index.points()
    for point in points:
        feature = next(iter(point.vectors.values()))
        by_organ.setdefault(str(point.payload.organ), []).append(np.asarray(feature, np.float32))
    if folder is not None:
        index.close()
    return {organ: np.stack(features) for organ, features in by_organ.items()}


def synthetic(real: dict[str, NDArray[np.float32]], number: int) -> list[Point]:
    """Batch ``number``: the same one in every run."""
    rng = np.random.default_rng(number)
    organs = list(real)
    length_one = bool(np.allclose(np.linalg.norm(real[organs[0]][:8], axis=1), 1, atol=1e-2))
    points = []
    for n in range(number * BATCH, (number + 1) * BATCH):
        organ = organs[n % len(organs)]
        one, other = real[organ][rng.integers(len(real[organ]), size=2)]
        share = rng.random(dtype=np.float32)
        noise = (1 + NOISE * rng.standard_normal(len(one), np.float32)).clip(0)
        vector = (share * one + (1 - share) * other) * noise
        if length_one:
            vector /= np.linalg.norm(vector)
        payload = Payload(organ, organ, 0.99, None, Header(None, None, None, None, None), 1, (Location(0, str(n)),))
        points.append(Point(point_id(f"synthetic/{n}"), payload, {"fcl1": vector.astype(np.float16)}))
    return points


def build(pipe: Connection, folder: Path, features: Path | None, count: int) -> None:
    """Load and build, as a job does, in a process of its own so that its memory can be told.

    Sends the seconds of loading, of the graph while it grew, and of the graph at the end.
    """
    real = real_features(features)
    values = next(iter(real.values())).shape[1]
    description = replace(describe(classes=tuple(real), quantization="turbo4"), dimensions={"fcl1": values})
    loading = growing = 0.0
    with create_index(parse_address(folder), description, purpose="benchmark") as index:
        for number in range(-(-count // BATCH)):
            points = synthetic(real, number)[: count - number * BATCH]
            started = time.perf_counter()
            index.upsert(points)
            loading += time.perf_counter() - started
            started = time.perf_counter()
            index.keep_up()
            growing += time.perf_counter() - started
        index.flush()
        pipe.send((loading, growing))
        started = time.perf_counter()
        index.optimize()
        pipe.send(time.perf_counter() - started)


def run(folder: Path, features: Path | None, count: int) -> list[Figure]:
    """Build the index, unless it is there, and search it."""
    figures = []
    if not folder.exists():
        ours, theirs = multiprocessing.Pipe()
        process = multiprocessing.get_context("spawn").Process(target=build, args=(theirs, folder, features, count))
        process.start()
        assert process.pid
        sampler = Sampler(process.pid)
        sampler.start()
        loading, growing = ours.recv()
        loaded = time.time()
        building = ours.recv()
        process.join()
        samples = sampler.stop()
        early, late = (
            max((s.anonymous_and_shared for s in samples if (s.at > loaded) == after), default=0) / 2**20
            for after in (False, True)
        )
        rate = f"{loading:,.0f} s, {count / loading:,.0f}/s"
        figures.append(Figure(f"load {count:,} points", rate, f"peak {early:,.0f} MB"))
        figures.append(Figure("the graph while it grew", f"{growing:,.0f} s"))
        figures.append(Figure("the graph at the end", f"{building:,.0f} s", f"peak {late:,.0f} MB"))
    with open_index(parse_address(folder), purpose="benchmark") as index:
        statistics = index.statistics()
        figures.append(
            Figure("on disk", f"{(statistics.bytes_on_disk or 0) / 2**30:,.1f} GB", f"complete: {statistics.complete}")
        )
        ids = [point_id(f"synthetic/{n}") for n in np.random.default_rng(0).choice(count, 200, replace=False)]
        figures += measure(index, list(index.retrieve(ids).items()), goal=0.98)
    return figures


def main() -> None:
    """Benchmark with what the command line gives."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--features", type=Path, help="index whose features are imitated")
    parser.add_argument("--points", type=int, default=1_000_000)
    parser.add_argument("--work", type=Path, help="keep the index here")
    arguments = parser.parse_args()
    print_machine()
    work = arguments.work or Path(tempfile.mkdtemp(prefix="cbmir-bench-"))
    try:
        print_figures(run(work / "million", arguments.features, arguments.points))
    finally:
        if not arguments.work:
            shutil.rmtree(work)


if __name__ == "__main__":
    main()
