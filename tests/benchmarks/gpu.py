"""A card and the job that feeds it: the network by precision, the embedder, decoding, storing, and whole jobs.

``python -m tests.benchmarks.gpu [--device cuda] [--images 24000] [--model FILE]`` makes its own files in a folder for
temporary ones. Where a job stands is its rate over the slowest of decoding, embedding and storing alone, on the same
cores. Without a card, ``--device cpu --images 2000`` shows that it runs.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch

from model.network.architecture import scale
from model.network.bundled import find_model
from model.network.checkpoint import load_network
from model.network.embedder import Embedder
from model.network.heads import default_layers
from model.network.preprocessing import INPUT
from tests.benchmarks.apart import measure_apart
from tests.benchmarks.archive import write_archive
from tests.benchmarks.figures import Figure, print_figures, print_machine
from tests.benchmarks.job import Timeline
from tests.benchmarks.pipeline import decode_alone, drop, place_of, store_alone
from tests.support import phantoms

BATCH = 256

SECONDS = 3.0
"""For which each loop runs."""

DRAWN = 64
"""Phantoms of each organ whose nearest are compared."""

NEIGHBOURS = 10

KEPT_GOAL = ">= 0.995"
"""Share of the nearest by float32 that a faster precision must keep."""

PRECISIONS = ("float32", "TF32", "bfloat16")


def run(model: Path, images: int, device: str, work: Path) -> list[Figure]:
    """All figures; a job's actors take one card each, or the cores where there is none."""
    files = [str(path) for path in sorted(write_archive(work / "archive", images).rglob("*")) if path.is_file()]
    figures = list(_precisions(model, device))
    embedder = Embedder.load(model, device=device)
    batch = np.random.default_rng(0).integers(0, 256, (BATCH, *embedder.preparation.shape), dtype=np.uint8)
    embedded = _rate(lambda: embedder.embed(batch, default_layers(model)), device)
    figures.append(Figure("embedding alone", f"{embedded:,.0f} images/s", f"batches of {BATCH} from the processor"))
    decoded = decode_alone(files)
    cores = os.cpu_count() or 1
    figures.append(Figure("decoding alone", f"{decoded:,.0f} images/s", f"{cores} processes"))
    for place in ("embedded", "server"):
        with place_of(place, work) as address:
            stored, _ = store_alone(model, min(images, 8000), address)
            figures.append(Figure(f"{place}: storing alone", f"{stored:,.0f} images/s", "one thread"))
            output = work / "job.json"
            given = ("--job", work / "archive", address, model, output, device)
            values = measure_apart("tests.benchmarks.gpu", *given, output=output)
            drop(address)
        slowest, name = min((decoded, "decoding"), (embedded, "embedding"), (stored, "storing"))
        figures += [
            Figure(
                f"{place}: steady job", f"{values['steady']:,.0f} images/s", name, values["steady"] / slowest, ">= 0.80"
            ),
            Figure(f"{place}: whole job", f"{values['whole']:,.0f} images/s", "with Ray's start and the graph"),
        ]
    return figures


def _precisions(model: Path, device: str) -> Iterator[Figure]:
    """The network on pixels that are on the device already, and how many of the nearest each precision keeps."""
    network, _ = load_network(model)
    network = network.to(device).eval()
    drawn = [phantoms.draw(organ, seed, INPUT) for organ in phantoms.ORGANS for seed in range(DRAWN)]
    pictures = scale(torch.tensor(np.rint(np.stack(drawn) * 255).astype(np.uint8)).to(device))
    pixels = pictures[:BATCH].contiguous()
    exact = None
    for precision in PRECISIONS:
        if device == "cpu" and precision == "TF32":
            continue
        with _precision(precision, device), torch.inference_mode():
            rate = _rate(lambda: network.features(pixels, ("fcl1",)), device)
            features = network.features(pictures, ("fcl1",))[1]["fcl1"].float()
        nearest = torch.cdist(features, features).topk(NEIGHBOURS + 1, largest=False).indices[:, 1:].cpu().numpy()
        exact = nearest if exact is None else exact
        kept = float(np.mean([len(set(a) & set(b)) / NEIGHBOURS for a, b in zip(exact, nearest, strict=True)]))
        yield Figure(f"network alone, {precision}", f"{rate:,.0f} images/s", "nearest kept of float32", kept, KEPT_GOAL)


@contextmanager
def _precision(name: str, device: str) -> Iterator[None]:
    before = torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = name == "TF32"
    try:
        with torch.autocast(device, torch.bfloat16, enabled=name == "bfloat16"):
            yield
    finally:
        torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32 = before


def _rate(compute: Callable[[], Any], device: str) -> float:
    """Images a second of a call that takes a batch."""
    compute()
    started, done = time.perf_counter(), 0
    while time.perf_counter() - started < SECONDS:
        compute()
        if device != "cpu":
            torch.cuda.synchronize()
        done += BATCH
    return done / (time.perf_counter() - started)


def _job(archive: str, address: str, model: str, output: str, device: str) -> None:
    from index.address import parse_address
    from workers.indexing.job import index_archive
    from workers.indexing.settings import JobSettings, Machine

    timeline, started = Timeline(), time.time()
    machine = Machine(gpus=None if device == "cpu" else 1.0)
    settings = JobSettings(
        (Path(archive),), parse_address(address), Path(model), default_layers(Path(model)), machine=machine
    )
    report = index_archive(settings, timeline)
    whole = report.points / (time.time() - started)
    moments = [moment for moment in timeline.embedded if 0.2 * report.points <= moment[1] <= 0.9 * report.points]
    (began, first), (ended, last) = moments[0], moments[-1]
    Path(output).write_text(json.dumps({"steady": (last - first) / (ended - began), "whole": whole}))


def main() -> None:
    """Measure with what the command line gives."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", type=Path)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--images", type=int, default=24_000)
    parser.add_argument("--job", nargs=5)
    arguments = parser.parse_args()
    if arguments.job:
        _job(*arguments.job)
        return
    print_machine()
    if arguments.device != "cpu":
        print(torch.cuda.get_device_name())
    with tempfile.TemporaryDirectory(prefix="cbmir-bench-") as work:
        print_figures(run(find_model(arguments.model), arguments.images, arguments.device, Path(work)))


if __name__ == "__main__":
    main()
