"""Run every benchmark and print its figures as a table.

``python -m tests.benchmarks [--model FILE] [--archive FOLDER] [--images N]``: without a model an untrained network is
used, without an archive one of phantoms is written. The large run takes all images, the small one a quarter of them.
"""

from __future__ import annotations

import argparse
import os
import shutil
import tempfile
from pathlib import Path

from tests.benchmarks import decoding, indexing, neighbours, resuming, uploading
from tests.benchmarks.archive import first_files, write_archive
from tests.benchmarks.figures import Figure, print_figures, print_machine
from tests.conftest import make_model


def main() -> None:
    """Benchmark with what the command line gives."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description="Benchmarks of cbmir.")
    parser.add_argument("--model", type=Path, default=os.environ.get("CBMIR_MODEL"))
    parser.add_argument("--archive", type=Path, help="uncompressed 16-bit 256 x 256 DICOM files")
    parser.add_argument("--images", type=int, default=28_800)
    parser.add_argument("--work", type=Path, help="keep archives and indexes here")
    arguments = parser.parse_args()
    work = arguments.work or Path(tempfile.mkdtemp(prefix="cbmir-bench-"))
    try:
        run(arguments.images, Path(arguments.model) if arguments.model else None, arguments.archive, work)
    finally:
        if not arguments.work:
            shutil.rmtree(work)


def run(images: int, model: Path | None, archive: Path | None, work: Path) -> None:
    """Make what is missing, then run the benchmarks one after another."""
    print_machine()
    work.mkdir(parents=True, exist_ok=True)
    model = model or make_model(work / "untrained.safetensors", seed=0)
    archive = archive or write_archive(work / "archive", images)
    small = first_files(archive, images // 4, work / "quarter")
    figures: list[Figure] = []
    figures += indexing.run(model, archive, small, images, work)
    figures += neighbours.run(work / "index-large", work / "index-small")
    figures += resuming.run(model, archive, work / "index-large")
    figures += decoding.run()
    figures += uploading.run()
    print_figures(figures)


if __name__ == "__main__":
    main()
