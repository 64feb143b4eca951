from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pydicom.uid import JPEGLSLossless

from model.errors import SettingError
from model.images.inspection import inspect_file
from tests.support import phantoms


def test_a_dicom_file_says_how_it_is_read(tmp_path: Path) -> None:
    ds = phantoms.dicom([phantoms.draw("knee", seed) for seed in (1, 2)], "knee", 1, syntax=JPEGLSLossless)
    ds.PatientName, ds.WindowCenter, ds.WindowWidth = "Secret^Anna", 300, 200
    ds.save_as(tmp_path / "a", enforce_file_format=True)
    inspection = inspect_file(tmp_path / "a", 2)
    assert (inspection.frame.number, inspection.frame.of) == (2, 2)
    facts = inspection.facts
    assert facts["transfer syntax"] == "JPEG-LS Lossless Image Compression (1.2.840.10008.1.2.4.80)"
    assert facts["decoder"].startswith("pyjpegls ")
    assert facts["displayed by"] == "window centre 300, width 200, LINEAR"
    assert "Secret" not in str(inspection)
    with pytest.raises(SettingError, match="has no frame 3: it has 2"):
        inspect_file(tmp_path / "a", 3)


def test_without_a_window_the_range_is_named_without_padding(tmp_path: Path) -> None:
    ds = phantoms.dicom([phantoms.draw("knee", 1)], "knee", 1)
    for keyword in ("WindowCenter", "WindowWidth"):
        if keyword in ds:
            del ds[keyword]
    values = np.full((ds.Rows, ds.Columns), 0, np.uint16)
    values[:2], values[2:4] = 100, 900
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation, ds.NumberOfFrames = 16, 12, 11, 0, 1
    ds.PhotometricInterpretation, ds.RescaleSlope, ds.RescaleIntercept = "MONOCHROME2", 2, -1000
    ds.PixelData, ds.PixelPaddingValue = values.tobytes(), 0
    ds["PixelPaddingValue"].VR = "US"
    ds.save_as(tmp_path / "a", enforce_file_format=True)
    facts = inspect_file(tmp_path / "a").facts
    assert facts["displayed by"] == "no window: range -800 to 800"
    assert facts["decoder"] == "none needed"


def test_a_picture_says_its_format(tmp_path: Path) -> None:
    Image.new("RGB", (30, 20)).save(tmp_path / "a", format="PNG")
    inspection = inspect_file(tmp_path / "a")
    assert inspection.facts["format"] == "PNG"
    assert inspection.frame.pixels.shape == (20, 30)
