"""A whole job against an afternoon's script over the same archive, cores, model and runtime.

``python -m tests.benchmarks.scripted --archive FOLDER [--compressed FOLDER] [--model FILE]``. Both are whole processes,
start-up included, by turns. The script's server is another process that throws away what arrives, so that storing costs
the script nothing; the job fills a real embedded index, graph included.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tests.benchmarks.archive import first_files
from tests.benchmarks.figures import Figure, print_figures
from tests.benchmarks.indexing import index
from tests.benchmarks.memory import Sample, Sampler
from tests.support.stand_in.process import StandInProcess

ROUNDS = 2


@dataclass(frozen=True, slots=True)
class Whole:
    """A whole process: wall seconds, and its memory over time."""

    seconds: float
    samples: list[Sample]

    @property
    def growth(self) -> float:
        """Peak of the second half of the run over that of the first, anonymous and shared pages."""
        sizes = [sample.anonymous_and_shared for sample in self.samples]
        return max(sizes[len(sizes) // 2 :]) / max(sizes[: len(sizes) // 2])


def run(model: Path, archives: dict[str, Path], images: int, work: Path) -> list[Figure]:
    """Two figures an archive."""
    figures = []
    for name, archive in archives.items():
        files = first_files(archive, images, work / f"scripted-{name}")
        pairs = [(_job(files, model, work / "index-scripted"), _script(files, model)) for _ in range(ROUNDS)]
        ours, theirs = (images / np.mean([whole.seconds for whole in runs]) for runs in zip(*pairs, strict=True))
        figures.append(
            Figure(f"{images:,} files, {name}", f"{ours:.1f} images/s", f"script {theirs:.1f}", ours / theirs, ">= 1.0")
        )
        growth = [np.mean([whole.growth for whole in runs]) for runs in zip(*pairs, strict=True)]
        figures.append(
            Figure(
                "  memory, second half over first", f"{growth[0]:.2f}", f"script {growth[1]:.2f}", growth[0] / growth[1]
            )
        )
    return figures


def _job(files: Path, model: Path, folder: Path) -> Whole:
    run = index(files, folder, model)
    return Whole(run.values["ended"] - run.values["started"], run.samples)


def _script(files: Path, model: Path) -> Whole:
    with (
        tempfile.TemporaryDirectory() as folder,
        StandInProcess(Path(folder), discards=True) as server,
    ):
        command = [
            sys.executable,
            "-m",
            "tests.benchmarks.baseline_script",
            files,
            "--model",
            model,
            "--grpc-port",
            server.port,
        ]
        started = time.time()
        with subprocess.Popen(list(map(str, command))) as process:
            sampler = Sampler(process.pid)
            sampler.start()
            code = process.wait()
            samples = sampler.stop()
        if code:
            sys.exit(f"the script has failed with exit code {code}")
        return Whole(time.time() - started, samples)


def main() -> None:
    """Compare with what the command line gives."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--archive", type=Path, required=True)
    parser.add_argument("--compressed", type=Path, help="the same in JPEG 2000")
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--images", type=int, default=7_200)
    arguments = parser.parse_args()
    archives = {"uncompressed": arguments.archive}
    if arguments.compressed:
        archives["JPEG 2000"] = arguments.compressed
    with tempfile.TemporaryDirectory(prefix="cbmir-bench-") as work:
        print_figures(run(arguments.model, archives, arguments.images, Path(work)))


if __name__ == "__main__":
    main()
