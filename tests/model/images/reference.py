"""What the reader makes of every file of five sets, as a table that a person has reviewed.

``python -m tests.model.images.reference`` writes ``reference.csv`` anew: look at every line that changes, and at its
frames. The sets: ``pydicom`` (the package's own test files) and ``pydicom-data`` (from PyPI); of the folder in
:mod:`tests.support.shared` ``shared``, other software's test files, ``scanners``, images of real ones, and ``cases``,
small files that once failed.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import data_store
import pydicom

from model.errors import ImageError
from model.images.frames import BrokenFrame, Frame
from model.images.reading import read_each_frame
from tests.support.shared import SHARED

TABLE = Path(__file__).with_name("reference.csv")

SETS = {
    "pydicom": Path(pydicom.__file__).parent / "data",
    "pydicom-data": Path(data_store.__file__).parent / "data",
    "shared": SHARED / "dicom",
    "scanners": SHARED / "scanners" / "dicom",
    "cases": SHARED.parent / "cases",
}
_NO_SAMPLES = (".py", ".pyc", ".json", ".csv", ".expected.png")


class Line(NamedTuple):
    """A file, and what was made of it: how many frames, the shape of the first, and why it or others are left out."""

    set: str
    file: str
    frames: int
    shape: str
    reason: str


def read_set(name: str) -> Iterator[Line]:
    """Read every file of a set."""
    root = SETS[name]
    for path in sorted(root.rglob("*")):
        if path.is_file() and not path.name.endswith(_NO_SAMPLES):
            yield _line(name, root, path)


def _line(name: str, root: Path, path: Path) -> Line:
    file = path.relative_to(root).as_posix()
    try:
        frames = list(read_each_frame(path))
    except ImageError as error:
        return Line(name, file, 0, "", error.reason.value)
    shapes = ["x".join(map(str, frame.pixels.shape)) for frame in frames if isinstance(frame, Frame)]
    broken = sorted({frame.reason.value for frame in frames if isinstance(frame, BrokenFrame)})
    return Line(name, file, len(shapes), shapes[0] if shapes else "", ", ".join(broken))


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
