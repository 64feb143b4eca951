"""Indexing: images a second over a bare loop of the network, first file to complete index, and peak memory."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tests.benchmarks.figures import Figure
from tests.benchmarks.memory import Sample, Sampler

BATCH = 32
LOOP_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Run:
    """One job: its timeline and report, and its memory over time."""

    values: dict[str, Any]
    samples: list[Sample]

    def steady_rate(self) -> float:
        """Frames a second between a tenth and nine tenths of the job."""
        moments = self.values["embedded"]
        total = moments[-1][1]
        inner = [(at, count) for at, count in moments if 0.1 * total <= count <= 0.9 * total]
        (first, low), (last, high) = inner[0], inner[-1]
        return float((high - low) / (last - first))

    def peak(self, *, optimizing: bool) -> int:
        """Most bytes of anonymous and shared pages, while indexing or while the graph was built."""
        border = self.values["optimizing"] or self.values["ended"]
        return max(s.anonymous_and_shared for s in self.samples if (s.at >= border) == optimizing)


def bare_loop(model: Path) -> float:
    """Images a second of the network alone, on arrays decoded before, with one thread a core."""
    script = f"""
import time, numpy as np, torch
from model.embedder import Embedder
torch.set_num_threads({os.cpu_count()})
embedder = Embedder.load({str(model)!r})
images = np.random.default_rng(0).integers(0, 256, ({BATCH}, 224, 224), dtype=np.uint8)
for _ in range(5):
    embedder.embed(images)
started, count = time.perf_counter(), 0
while time.perf_counter() - started < {LOOP_SECONDS}:
    embedder.embed(images)
    count += len(images)
print(count / (time.perf_counter() - started))
"""
    return float(subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True).stdout)


def index(archive: Path, index_folder: Path, model: Path) -> Run:
    """Index an archive anew in a process of its own."""
    shutil.rmtree(index_folder, ignore_errors=True)
    output = index_folder.with_suffix(".json")
    command = [sys.executable, "-m", "tests.benchmarks.job", archive, index_folder, model, output]
    with subprocess.Popen(list(map(str, command))) as process:
        sampler = Sampler(process.pid)
        sampler.start()
        code = process.wait()
        samples = sampler.stop()
    if code:
        sys.exit(f"the job has failed with exit code {code}")
    return Run(json.loads(output.read_text()), samples)


def run(model: Path, archive: Path, small: Path, images: int, work: Path) -> list[Figure]:
    """The figures of two jobs, a bare loop before, between and after them."""
    loops = [bare_loop(model)]
    little = index(small, work / "index-small", model)
    loops.append(bare_loop(model))
    large = index(archive, work / "index-large", model)
    loops.append(bare_loop(model))
    bare = float(np.median(loops))
    rate = large.steady_rate()
    report = large.values["report"]
    whole = large.values["ended"] - large.values["started"]
    stages = ", ".join(f"{name} {seconds:.0f} s" for name, seconds in report["stage_seconds"].items())
    peaks = little.peak(optimizing=False), large.peak(optimizing=False)
    figures = [
        Figure("indexing, steady", f"{rate:.1f} images/s", f"bare network loop {bare:.1f}/s", rate / bare, ">= 0.90"),
        Figure("first file to complete index", f"{whole:.0f} s, {images / whole:.1f} images/s", f"of it {stages}"),
        Figure("of it building the graph", f"{report['seconds_optimizing']:.0f} s"),
        Figure(
            f"peak memory while indexing {images:,}",
            f"{peaks[1] / 2**20:,.0f} MB",
            f"{images // 4:,} images: {peaks[0] / 2**20:,.0f} MB",
            peaks[1] / peaks[0],
            "<= 1.10",
        ),
    ]
    if large.values["optimizing"]:
        # Quantized vectors and graph stay in memory, so this must grow with the index.
        grown = [run.peak(optimizing=True) for run in (little, large) if run.values["optimizing"]]
        text = " and ".join(f"{peak / 2**20:,.0f} MB" for peak in grown)
        figures.append(Figure("peak while building the graph", text, "grows with the index"))
    time.sleep(1)
    return figures
