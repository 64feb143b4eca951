"""What the reader makes of every file of three sets of real DICOM files, as a table that a person has reviewed.

``python -m tests.model.reference`` writes ``reference.csv`` anew: look at every line that changes, and at its frames.
The sets: ``pydicom`` (the package's own test files), ``pydicom-data`` (from PyPI) and ``shared`` (see conftest).
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import data_store
import pydicom

from model.errors import ImageError
from model.reading import read_frames
from tests.conftest import SHARED

TABLE = Path(__file__).with_name("reference.csv")

SETS = {
    "pydicom": Path(pydicom.__file__).parent / "data",
    "pydicom-data": Path(data_store.__file__).parent / "data",
    "shared": SHARED / "dicom",
}
_NO_SAMPLES = {".py", ".pyc", ".json", ".csv"}


class Line(NamedTuple):
    """A file, and what was made of it: the number of frames and the shape of the first, or why it is left out."""

    set: str
    file: str
    frames: int
    shape: str
    reason: str


def read_set(name: str) -> Iterator[Line]:
    """Read every file of a set."""
    root = SETS[name]
    for path in sorted(root.rglob("*")):
        if path.is_file() and path.suffix not in _NO_SAMPLES:
            yield _line(name, root, path)


def _line(name: str, root: Path, path: Path) -> Line:
    file = path.relative_to(root).as_posix()
    try:
        shapes = [frame.pixels.shape for frame in read_frames(path)]
    except ImageError as error:
        return Line(name, file, 0, "", error.reason.value)
    return Line(name, file, len(shapes), "x".join(map(str, shapes[0])), "")


def expected(name: str) -> list[Line]:
    """The lines of one set in the table."""
    with TABLE.open(newline="") as file:
        lines = (Line(a, b, int(n), shape, reason) for a, b, n, shape, reason in csv.reader(file))
        return [line for line in lines if line.set == name]


def main() -> None:
    """Write the table anew."""
    lines = [line for name in SETS for line in read_set(name)]
    with TABLE.open("w", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows(lines)


if __name__ == "__main__":
    main()
