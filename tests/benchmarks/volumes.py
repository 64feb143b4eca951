"""How well each rule of pooling finds series of bodies whose answer is known: cut whole, cropped and tilted, re-sliced.

``python -m tests.benchmarks.volumes [--kinds 8] [--persons 5] [--model NAME]``. A body of ellipsoids is of a kind,
which settles its organs, and of a person, in whom they lie and look a little different; series of the same kind are
right answers, the person's own are left out.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

from rich.console import Console

from cli.rendering.tables import series_comparison_tables
from index.evaluation.by_series import compare_by_series
from model.network.bundled import find_model
from model.network.embedder import Embedder
from model.training.repository import LabelledFile
from tests.benchmarks.figures import print_machine
from tests.support.volumes import make_body, write_series

CUTS: dict[str, Callable[..., str]] = {
    "whole": write_series,
    "cropped": partial(write_series, part=(0.3, 0.8)),
    "tilted": partial(write_series, tilt=15.0, slices=20),
    "re-sliced": partial(write_series, slices=12, backwards=True),
    "coronal": partial(write_series, plane="coronal"),
}


def write_bodies(folder: Path, kinds: int, persons: int) -> list[LabelledFile]:
    """Every cut of every body, all of them queries."""
    files = []
    for kind in range(kinds):
        for person in range(persons):
            for cut, write in CUTS.items():
                name = f"{kind}-{person}-{cut}"
                write(folder / name, make_body(kind, person), name, side=96)
                files += [
                    LabelledFile(path=path, label=f"kind {kind}", split="test", group=f"{kind}-{person}", series=name)
                    for path in sorted((folder / name).iterdir())
                ]
    return files


def main() -> None:
    """Write the bodies, and print a table a layer."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.volumes", description=main.__doc__)
    parser.add_argument("--kinds", type=int, default=8)
    parser.add_argument("--persons", type=int, default=5)
    parser.add_argument("--model", type=Path)
    arguments = parser.parse_args()
    print_machine()
    path = find_model(arguments.model)
    with tempfile.TemporaryDirectory(prefix="cbmir-bench-") as work:
        files = write_bodies(Path(work), arguments.kinds, arguments.persons)
        models = [(path.name, Embedder.load(path, runtime="openvino"))]
        found = compare_by_series(models, files, workers=2)
    for table in series_comparison_tables(found):
        Console(width=120).print(table)


if __name__ == "__main__":
    main()
