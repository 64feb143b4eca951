"""The frames of real files against an independent reader, SimpleITK, after the same window."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813 (as its manual has it)
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from model.images.dicom import read_object
from model.images.reading import is_dicom, is_image, read_frames
from model.images.sources import open_source
from tests.model.images.reference import SETS, expected

MEAN_DIFFERENCE = 1.0
"""Grey levels of 255."""


def grey_files(name: str) -> Iterator[tuple[Path, Dataset]]:
    """Single-frame grey files with a simple rescale and no table: where the window is a formula of one line."""
    for line in expected(name):
        path = SETS[name] / line.file
        if line.frames != 1:
            continue
        with open_source(path, is_image) as source, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # pydicom's, of headers that it mends
            if not is_dicom(source.start):
                continue
            ds = read_object(source).ds
        tables = ("VOILUTSequence", "ModalityLUTSequence", "SharedFunctionalGroupsSequence", "PixelPaddingValue")
        if ds.PhotometricInterpretation.startswith("MONOCHROME") and not any(keyword in ds for keyword in tables):
            yield path, ds


def shown(real: NDArray[Any], ds: Dataset) -> NDArray[Any]:
    """Real-world values as displayed: the window of PS3.3 C.11.2.1.2, or the range, written out once more."""
    centre, width = ds.get("WindowCenter"), ds.get("WindowWidth")
    if centre in (None, "") or width in (None, ""):
        low, high = real.min(), real.max()
        display = (real - low) / max(high - low, 1e-12)
    else:
        c, w = (float(np.atleast_1d(value)[0]) for value in (centre, width))
        display = np.select([real <= c - 0.5 - (w - 1) / 2, real > c - 0.5 + (w - 1) / 2], [0, 1], np.nan)
        display = np.where(np.isnan(display), (real - (c - 0.5)) / max(w - 1, 1e-9) + 0.5, display)
    grey: NDArray[Any] = (1 - display if ds.PhotometricInterpretation == "MONOCHROME1" else display) * 255.0
    return grey


def compare(name: str) -> tuple[int, dict[str, float]]:
    """How many files both read, and those of them whose frames differ by more than allowed."""
    read, differ = 0, {}
    sitk.ProcessObject.SetGlobalWarningDisplay(False)  # type: ignore[no-untyped-call]
    for path, ds in grey_files(name):
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                other = sitk.GetArrayFromImage(sitk.ReadImage(str(path))).squeeze().astype(float)
        except RuntimeError:
            continue  # it does not read what we read
        [frame] = read_frames(path)
        read += 1
        if ds.PhotometricInterpretation == "MONOCHROME1":  # it has inverted the stored values
            slope, intercept = float(ds.get("RescaleSlope", 1)), float(ds.get("RescaleIntercept", 0))
            other = slope * (2**ds.BitsStored - 1) + 2 * intercept - other
        difference = float(np.abs(shown(other, ds) - frame.pixels).mean())
        if difference >= MEAN_DIFFERENCE:
            differ[path.name] = round(difference, 2)
    return read, differ


@pytest.mark.parametrize("name", ["pydicom", "pydicom-data"])
def test_frames_are_those_of_an_independent_reader(name: str) -> None:
    read, differ = compare(name)
    assert read > 15
    assert differ == {}


def test_shared_frames_are_those_of_an_independent_reader(shared_data: Path) -> None:
    read, differ = compare("shared")
    assert read > 50
    assert differ == {}
