"""Indexing: images a second over a bare loop of the network, first file to complete index, and peak memory.

``python -m tests.benchmarks.indexing MODEL [MODEL ...] [--images 4800]`` measures several models, as encoders, one
after another, in their steady state only.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from model.network.bundled import find_model
from tests.benchmarks.archive import write_archive
from tests.benchmarks.figures import Figure, print_figures, print_machine
from tests.benchmarks.interleaving import BareLoop, Turns
from tests.benchmarks.memory import Sample, Sampler


@dataclass(frozen=True, slots=True)
class Run:
    """One job: its timeline and report, its memory over time, and the turns of the loop in between, if any."""

    values: dict[str, Any]
    samples: list[Sample]
    turns: Turns | None

    def peak(self, *, optimizing: bool) -> int:
        """Most bytes of anonymous and shared pages, while indexing or while the graph was built."""
        border = self.values["optimizing"] or self.values["ended"]
        return max((s.anonymous_and_shared for s in self.samples if (s.at >= border) == optimizing), default=0)

    def peaks_apart(self) -> tuple[int, int]:
        """Most bytes while indexing of the process that holds the index, and of all the others."""
        border = self.values["optimizing"] or self.values["ended"]
        samples = [sample for sample in self.samples if sample.at < border]
        owner = max((sample.of_root for sample in samples), default=0)
        return owner, max((sample.anonymous_and_shared - sample.of_root for sample in samples), default=0)


def index(archive: Path, index_folder: Path, model: Path, loop: BareLoop | None = None) -> Run:
    """Index an archive anew in a process of its own, by turns with the loop if there is one."""
    shutil.rmtree(index_folder, ignore_errors=True)
    output = index_folder.with_suffix(".json")
    command = [sys.executable, "-m", "tests.benchmarks.job", archive, index_folder, model, output]
    with subprocess.Popen(list(map(str, command))) as process:
        sampler = Sampler(process.pid)
        sampler.start()
        turns = Turns(process.pid, loop) if loop else None
        if turns:
            turns.start()
        code = process.wait()
        if turns:
            turns.stop()
        samples = sampler.stop()
    if code:
        sys.exit(f"the job has failed with exit code {code}")
    return Run(json.loads(output.read_text()), samples, turns)


def run(model: Path, archive: Path, small: Path, images: int, work: Path) -> list[Figure]:
    """The figures of two jobs, the larger one by turns with a bare loop of the network, one thread a core."""
    little = index(small, work / "index-small", model)
    loop = BareLoop(model, os.cpu_count() or 1)
    large = index(archive, work / "index-large", model, loop)
    assert large.turns is not None
    rate, bare = large.turns.rates(large.values["embedded"])
    loop.close()
    report = large.values["report"]
    whole = large.values["ended"] - large.values["started"] - large.turns.paused
    stages = ", ".join(f"{name} {seconds:.0f} s" for name, seconds in report["stage_seconds"].items())
    peaks = little.peak(optimizing=False), large.peak(optimizing=False)
    figures = [
        Figure(
            "indexing, steady",
            f"{rate:.1f} images/s",
            f"bare network loop, by turns {bare:.1f}/s",
            rate / bare,
            ">= 0.90",
        ),
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


def steady(model: Path, archive: Path, work: Path) -> Figure:
    """Images a second of a job, by turns with a bare loop of the network."""
    loop = BareLoop(model, os.cpu_count() or 1)
    job = index(archive, work / "index", model, loop)
    assert job.turns is not None
    rate, bare = job.turns.rates(job.values["embedded"])
    loop.close()
    goal = ">= 0.85"
    return Figure(
        f"indexing, steady, {model.stem}", f"{rate:.1f} images/s", f"bare loop {bare:.1f}/s", rate / bare, goal
    )


def main() -> None:
    """Measure the models that the command line names."""
    parser = argparse.ArgumentParser()
    parser.add_argument("models", nargs="+")
    parser.add_argument("--images", type=int, default=4_800)
    arguments = parser.parse_args()
    print_machine()
    with tempfile.TemporaryDirectory(prefix="cbmir-bench-") as work:
        archive = write_archive(Path(work, "archive"), arguments.images)
        for model in arguments.models:
            print_figures([steady(find_model(model), archive, Path(work))])


if __name__ == "__main__":
    main()
