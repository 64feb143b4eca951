"""Run every benchmark and print its figures as a table.

``python -m tests.benchmarks [--model FILE] [--archive FOLDER] [--repository MANIFEST] [--images N]``: without a model
the bundled one is used, without an archive one of phantoms is written. The large run takes all images, the small one a
quarter of them.
"""

from __future__ import annotations

import argparse
import os
import shutil
import tempfile
from pathlib import Path

from model.network.bundled import find_model
from tests.benchmarks import decoding, indexing, neighbours, pipeline, resuming, runtimes, two_nodes, uploading
from tests.benchmarks.archive import first_files, write_archive
from tests.benchmarks.figures import Figure, print_figures, print_machine


def main() -> None:
    """Benchmark with what the command line gives."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description="Benchmarks of cbmir.")
    parser.add_argument("--model", type=Path, default=os.environ.get("CBMIR_MODEL"))
    parser.add_argument("--archive", type=Path, help="uncompressed 16-bit 256 x 256 DICOM files")
    parser.add_argument("--repository", type=Path, help="labelled images, for what the runtimes lose")
    parser.add_argument("--images", type=int, default=28_800)
    parser.add_argument("--work", type=Path, help="keep archives and indexes here")
    arguments = parser.parse_args()
    work = arguments.work or Path(tempfile.mkdtemp(prefix="cbmir-bench-"))
    try:
        run(find_model(arguments.model), arguments.archive, arguments.repository, arguments.images, work)
    finally:
        if not arguments.work:
            shutil.rmtree(work)


def run(model: Path, archive: Path | None, repository: Path | None, images: int, work: Path) -> None:
    """Make what is missing, then run the benchmarks one after another."""
    print_machine()
    work.mkdir(parents=True, exist_ok=True)
    archive = archive or write_archive(work / "archive", images)
    small = first_files(archive, images // 4, work / "quarter")
    figures: list[Figure] = []
    figures += indexing.run(model, archive, small, images, work)
    figures += neighbours.run(work / "index-large", work / "index-small")
    figures += resuming.run(model, archive, work / "index-large")
    figures += pipeline.run(model, images // 2, work / "pipeline")
    figures += two_nodes.run(model, images // 3, work / "two-nodes")
    figures += decoding.run()
    figures += uploading.run()
    figures += runtimes.run(model, repository)
    print_figures(figures)


if __name__ == "__main__":
    main()
