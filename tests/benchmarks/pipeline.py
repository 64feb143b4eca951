"""The pipeline with a network that costs nothing, over what decoding alone and storing alone give on the same cores.

``python -m tests.benchmarks.pipeline [--images 12000] [--model FILE]``; the model gives layers and classes only.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from index.address import parse_address
from index.engines.connection import connect
from index.ledger import FileKey
from index.ledgers import open_ledger
from index.opening import create_index
from index.schema import Description
from model.images.frames import Header
from model.network.bundled import find_model
from model.network.heads import default_layers, model_layers
from model.network.metadata import read_metadata
from tests.benchmarks.apart import measure_apart
from tests.benchmarks.archive import write_archive
from tests.benchmarks.figures import Figure, print_figures, print_machine
from tests.support.stand_in.process import StandInProcess
from workers.indexing.decoding import decode_file
from workers.indexing.planning import PendingFile
from workers.indexing.rows import embedded_schema, to_binary
from workers.indexing.sink import Sink, SinkCounts

ROUNDS = 2

BATCH = 64
"""Frames of one embedded block, as on processors."""


def run(model: Path, images: int, work: Path) -> list[Figure]:
    """The pipeline and its two bounds by turns, and where its processor time goes."""
    archive = write_archive(work / "archive", images)
    files = [str(path) for path in sorted(archive.rglob("*")) if path.is_file()]
    figures = []
    for place in ("embedded", "server"):
        with place_of(place, work) as address:
            turns = [
                (
                    decode_alone(files),
                    store_alone(model, images, address),
                    _pipeline(archive, model, address, work / "free.json"),
                )
                for _ in range(ROUNDS)
            ]
        decoded = float(np.mean([turn[0] for turn in turns]))
        stored, sink_cpu = (float(value) for value in np.mean([turn[1] for turn in turns], axis=0))
        rate, received = (float(np.mean([turn[2][name] for turn in turns])) for name in ("rate", "bytes"))
        took = {kind: float(np.mean([turn[2]["milliseconds"].get(kind, 0.0) for turn in turns])) for kind in KINDS}
        slower, name = min((decoded, "decoding alone"), (stored, "storing alone"))
        figures += [
            Figure(f"{place}: decoding alone", f"{decoded:,.0f} images/s", f"{os.cpu_count()} processes"),
            Figure(f"{place}: storing alone", f"{stored:,.0f} images/s", f"one thread, {sink_cpu:.3f} ms an image"),
            Figure(
                f"{place}: pipeline, free network",
                f"{rate:,.0f} images/s",
                f"{name} {slower:,.0f}",
                rate / slower,
                ">= 0.80",
            ),
            Figure("  through the job's own process", f"{received:,.0f} bytes an image"),
            *(Figure(f"  {kind}", f"{milliseconds:.3f} ms an image") for kind, milliseconds in took.items()),
        ]
    return figures


KINDS = ("driver", "decode", "embed", "store", "raylet", "ray")


@contextmanager
def place_of(place: str, work: Path) -> Iterator[str]:
    """The address of an embedded index, or of one on a stand-in server in a process of its own."""
    if place == "embedded":
        yield str(work / "index")
        return
    os.environ["CBMIR_STATE"] = str(work / "state")
    with StandInProcess(work / "server") as server:
        yield f"http://127.0.0.1:1/x?grpc_port={server.port}"


def drop(address: str) -> None:
    """Make room for the next round."""
    there = parse_address(address)
    shutil.rmtree(there.home, ignore_errors=True)
    if there.server:
        client = connect(there.server)
        for collection in client.get_collections().collections:
            client.delete_collection(collection.name)
        client.close()


def decode_alone(files: list[str]) -> float:
    """Images a second of as many processes as there are cores."""
    cores = os.cpu_count() or 1
    context = multiprocessing.get_context("spawn")
    with context.Pool(cores) as pool:
        pool.map(_decode_share, [files[:50]] * cores)  # imports
        started = time.perf_counter()
        pool.map(_decode_share, [files[number::cores] for number in range(cores)])
        return len(files) / (time.perf_counter() - started)


def _decode_share(files: list[str]) -> int:
    return sum(len(decode_file(number, path, 600.0)) for number, path in enumerate(files))


def store_alone(model: Path, images: int, place: str) -> tuple[float, float]:
    """Images a second of the sink into an index, and its processor time for one, in milliseconds."""
    layers, metadata = default_layers(model), read_metadata(model)
    dimensions = {layer: model_layers(model)[layer] for layer in layers}
    description = Description(metadata.fingerprint, str(model), metadata.classes, layers, dimensions, roots=("/a",))
    tables = list(_tables(images, dimensions))
    window = [
        PendingFile(FileKey(0, f"s{n // 400}", f"{n}.dcm"), "", "", 526_336, 1_790_000_000_000_000_000 + n, None)
        for n in range(images)
    ]
    address = parse_address(place)
    with create_index(address, description, purpose="benchmark") as index:
        ledger = open_ledger(address, purpose="benchmark")
        sink = Sink(index, ledger, window, lambda *_: None, SinkCounts())
        started, busy = time.perf_counter(), time.process_time()
        for table in tables:
            sink.take(table)
        sink.commit()
        seconds, busy = time.perf_counter() - started, time.process_time() - busy
        ledger.close()
    drop(place)
    return images / seconds, busy / images * 1e3


def _tables(images: int, dimensions: dict[str, int]) -> list[pa.Table]:
    """Blocks as the embedding actors give them."""
    schema = embedded_schema(dimensions)
    rng = np.random.default_rng(0)
    features = {
        layer: np.maximum(rng.normal(0, 1, (BATCH, size)), 0).astype(np.float16) for layer, size in dimensions.items()
    }
    found = []
    for start in range(0, images, BATCH):
        count = min(BATCH, images - start)
        numbers = range(start, start + count)
        columns = {
            "file": numbers,
            "frame": [1] * count,
            "of": [1] * count,
            "identity": [f"1.2.840.113654.2.55.{number}/1/0123456789abcdef{number}" for number in numbers],
            **{name: [None] * count for name in (*Header.__dataclass_fields__, "reason", "detail")},
            "modality": ["CT"] * count,
            "sop_instance_uid": [f"1.2.840.113654.2.55.{number}" for number in numbers],
            "series_instance_uid": [f"1.2.840.113654.2.56.{number // 10}" for number in numbers],
            "study_instance_uid": [f"1.2.840.113654.2.57.{number // 10}" for number in numbers],
            "best_guess": [number % 3 for number in numbers],
            "organ_probability": [0.9] * count,
            "known": [True] * count,
        }
        arrays = {name: pa.array(list(values), schema.field(name).type) for name, values in columns.items()}
        arrays |= {layer: to_binary(values[:count]) for layer, values in features.items()}
        found.append(pa.table({name: arrays[name] for name in schema.names}, schema=schema))
    return found


def _pipeline(archive: Path, model: Path, address: str, output: Path) -> dict[str, Any]:
    values = measure_apart("tests.benchmarks.free", archive, address, model, output, output=output)
    drop(address)
    return values


def main() -> None:
    """Measure with what the command line gives."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", type=Path)
    parser.add_argument("--images", type=int, default=12_000)
    parser.add_argument("--work", type=Path, help="keep the archive here")
    arguments = parser.parse_args()
    print_machine()
    with tempfile.TemporaryDirectory(prefix="cbmir-bench-") as work:
        place = arguments.work or Path(work)
        place.mkdir(parents=True, exist_ok=True)
        print_figures(run(find_model(arguments.model), arguments.images, place))


if __name__ == "__main__":
    main()
