"""Archives for benchmarks: uncompressed 16-bit 256 × 256 DICOM files of phantoms."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from tests.support import phantoms

DRAWN = 40
"""Phantoms drawn of each organ; all files are shifted copies of these, each with its own noise."""


def write_archive(folder: Path, count: int, *, series_of: int = 10) -> Path:
    """Write ``count`` files in studies of a series each, unless they are there already."""
    if folder.exists():
        return folder
    drawn = {organ: [phantoms.draw(organ, seed) for seed in range(DRAWN)] for organ in phantoms.ORGANS}
    organs = list(drawn)
    images = series_of * len(organs)  # of the series of all organs that are written side by side
    for number in range(count):
        organ = organs[number % len(organs)]
        rng = np.random.default_rng(number)
        picture = np.roll(drawn[organ][int(rng.integers(DRAWN))], rng.integers(-8, 9, 2), (0, 1))
        picture = np.clip(picture + rng.normal(0, 0.01, picture.shape), 0, 1)
        path = folder / organ / f"{number // images:06}" / f"{number:08}.dcm"
        path.parent.mkdir(parents=True, exist_ok=True)
        header = phantoms.dicom([picture], organ, number)
        header.StudyInstanceUID = phantoms.uid(organ, f"study {number // images}")
        header.SeriesInstanceUID = phantoms.uid(organ, f"series {number // images}")
        header.save_as(path, enforce_file_format=True)
    return folder


def first_files(archive: Path, count: int, folder: Path) -> Path:
    """A folder with links to evenly chosen files of an archive."""
    if folder.exists():
        return folder
    files = sorted(path for path in archive.rglob("*") if path.is_file())
    for number in np.linspace(0, len(files) - 1, count).astype(int):
        link = folder / files[number].relative_to(archive)
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(files[number])
    return folder
