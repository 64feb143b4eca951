"""The cost of an image as the archive grows: ``make bench-large``.

``python -m tests.benchmarks.large [--archive FOLDER] [--model FILE] [--sizes 7200,28800,115200]``. Each job runs by
turns with the bare loop of the network, so that the machine's drift over an hour does not count: an image's cost is
given in images of the bare loop.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from pathlib import Path

from model.network.layers import FEATURES
from tests.benchmarks.archive import first_files, write_archive
from tests.benchmarks.figures import Figure, print_figures, print_machine
from tests.benchmarks.indexing import index
from tests.benchmarks.interleaving import BareLoop
from tests.support.models import make_model


def run(model: Path, archive: Path, sizes: list[int], work: Path) -> list[Figure]:
    """Two figures a size, then the largest over the smallest."""
    figures, costs, owners, others = [], [], [], []
    loop = BareLoop(model, os.cpu_count() or 1)
    for size in sizes:
        job = index(first_files(archive, size, work / f"first-{size}"), work / "index", model, loop)
        assert job.turns is not None
        rate, bare = job.turns.rates(job.values["embedded"])
        whole = job.values["ended"] - job.values["started"] - job.turns.paused
        costs.append(bare / rate)
        owner, rest = job.peaks_apart()
        owners.append(owner)
        others.append(rest)
        text = f"{1e3 / rate:.2f} ms an image, {whole:,.0f} s in all"
        figures.append(Figure(f"{size:,} images", text, f"bare loop {1e3 / bare:.2f} ms", costs[-1]))
        graph = job.peak(optimizing=True) if job.values["optimizing"] else 0
        figures.append(
            Figure("  peak memory", f"{job.peak(optimizing=False) / 2**20:,.0f} MB", f"graph {graph / 2**20:,.0f} MB")
        )
    loop.close()
    name, baseline = f"cost of an image at {sizes[-1]:,}", f"at {sizes[0]:,}: {costs[0]:.3f}"
    figures.append(Figure(name, f"{costs[-1]:.3f}", baseline, costs[-1] / costs[0], "<= 1.10"))
    name, baseline = "peak memory of the pipeline", f"{others[0] / 2**20:,.0f} MB"
    figures.append(Figure(name, f"{others[-1] / 2**20:,.0f} MB", baseline, others[-1] / others[0], "<= 1.10"))
    # The quantized copy, 2 KB a point, and the payload's indexes stay in memory: this must grow with the index.
    grown = (owners[-1] - owners[0]) / max(sizes[-1] - sizes[0], 1)
    text, baseline = f"{owners[-1] / 2**20:,.0f} MB, {grown / 1e3:.1f} KB a point", f"{owners[0] / 2**20:,.0f} MB"
    figures.append(Figure("  of the process that holds the index", text, baseline))
    return figures


def main() -> None:
    """Benchmark with what the command line gives."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--archive", type=Path, help="at least as many files as the largest size")
    parser.add_argument("--model", type=Path, default=os.environ.get("CBMIR_MODEL"))
    parser.add_argument("--sizes", default="7200,28800,115200")
    arguments = parser.parse_args()
    sizes = sorted(map(int, arguments.sizes.split(",")))
    print_machine()
    with tempfile.TemporaryDirectory(prefix="cbmir-bench-") as temporary:
        work = Path(temporary)
        model = (
            Path(arguments.model)
            if arguments.model
            else make_model(work / "untrained.safetensors", seed=0, width=FEATURES)
        )
        archive = arguments.archive or write_archive(work / "archive", sizes[-1])
        print_figures(run(model, archive, sizes, work))


if __name__ == "__main__":
    main()
