"""Every kind of pixel that DICOM knows (PS3.3 C.7.6.3, C.7.6.24, C.7.6.25), written by pydicom and shown."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileDataset
from pydicom.sequence import Sequence
from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

from model.errors import ImageError, Reason
from model.images.frames import GreyImage
from model.images.reading import read_frames
from tests.support import phantoms

RAMP = np.linspace(0, 1, 64).reshape(8, 8)
SHOWN = np.rint(RAMP * 255)


def blank(syntax: Any = ExplicitVRLittleEndian) -> FileDataset:
    """A secondary capture without pixels, window or rescale."""
    ds = phantoms.dicom([RAMP], "knee", 1, syntax=syntax)
    ds.set_original_encoding(syntax.is_implicit_VR, syntax.is_little_endian)
    for keyword in ("PixelData", "WindowCenter", "WindowWidth", "RescaleSlope", "RescaleIntercept"):
        del ds[keyword]
    return ds


def frames(ds: Dataset, path: Path) -> list[GreyImage]:
    ds.save_as(path, enforce_file_format=True)
    return [frame.pixels for frame in read_frames(path)]


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian, ExplicitVRBigEndian])
@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize(("allocated", "stored"), [(8, 8), (8, 6), (16, 9), (16, 16), (32, 20), (32, 32)])
def test_whole_numbers_of_all_sizes(tmp_path: Path, syntax: Any, signed: bool, allocated: int, stored: int) -> None:
    ds = blank(syntax)
    low = -(2 ** (stored - 1)) if signed else 0
    values = np.rint(RAMP * (2**stored - 1)).astype(np.int64) + low
    order = ">" if syntax == ExplicitVRBigEndian else "<"
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = allocated, stored, stored - 1, int(signed)
    ds.PixelData = values.astype(f"{order}{'i' if signed else 'u'}{allocated // 8}").tobytes()
    ds["PixelData"].VR = "OB" if allocated == 8 else "OW"
    [shown] = frames(ds, tmp_path / "one")
    assert np.abs(shown - SHOWN).max() <= 255 / (2**stored - 1) / 2 + 1


@pytest.mark.parametrize(("keyword", "kind"), [("FloatPixelData", "<f4"), ("DoubleFloatPixelData", "<f8")])
def test_real_numbers(tmp_path: Path, keyword: str, kind: str) -> None:
    ds = blank()
    values = (RAMP * 1e-3 - 5e-4).astype(kind)
    values[0, 0] = np.nan
    ds.BitsAllocated = 8 * values.itemsize
    for unused in ("BitsStored", "HighBit", "PixelRepresentation"):
        del ds[unused]
    setattr(ds, keyword, values.tobytes())
    [shown] = frames(ds, tmp_path / "one")
    assert np.abs(shown.ravel()[2:] - SHOWN.ravel()[2:]).max() <= 5  # the range starts at the second value
    assert shown[0, 0] == 0


@pytest.mark.parametrize(("keyword", "kind"), [("FloatPixelData", "<f4"), ("DoubleFloatPixelData", "<f8")])
def test_padding_among_real_numbers(tmp_path: Path, keyword: str, kind: str) -> None:
    ds = blank()
    values = RAMP.astype(kind)
    values[:2] = -1e9 / 3
    ds.BitsAllocated = 8 * values.itemsize
    setattr(ds, keyword, values.tobytes())
    setattr(ds, keyword.replace("Data", "PaddingValue"), -1e9 / 3)
    [shown] = frames(ds, tmp_path / "one")
    assert (shown[:2] == 0).all()
    low = RAMP[2:].min()
    assert np.abs(shown[2:] - (RAMP[2:] - low) / (1 - low) * 255).max() <= 1


def test_single_bits(tmp_path: Path) -> None:
    ds = blank()
    mask = RAMP > 0.5
    ds.BitsAllocated, ds.BitsStored, ds.HighBit = 1, 1, 0
    ds.PixelData = np.packbits(mask.ravel(), bitorder="little").tobytes()
    ds["PixelData"].VR = "OB"
    [shown] = frames(ds, tmp_path / "one")
    assert (shown == mask * 255).all()


def colour(photometric: str, planes: NDArray[np.uint8], *, planar: int) -> FileDataset:
    """``planes`` is ``(rows, columns, 3)``."""
    ds = blank()
    ds.SamplesPerPixel, ds.PlanarConfiguration, ds.PhotometricInterpretation = 3, planar, photometric
    ds.BitsAllocated, ds.BitsStored, ds.HighBit = 8, 8, 7
    ds.PixelData = (planes.transpose(2, 0, 1) if planar else planes).tobytes()
    ds["PixelData"].VR = "OB"
    return ds


@pytest.mark.parametrize("planar", [0, 1])
def test_colour_by_pixel_and_by_plane(tmp_path: Path, planar: int) -> None:
    rgb = np.stack([np.full_like(SHOWN, 200), SHOWN, np.zeros_like(SHOWN)], axis=-1).astype(np.uint8)
    [shown] = frames(colour("RGB", rgb, planar=planar), tmp_path / "one")
    assert np.abs(shown - (0.299 * 200 + 0.587 * SHOWN)).max() <= 1
    ybr = np.stack([SHOWN, np.full_like(SHOWN, 128), np.full_like(SHOWN, 128)], axis=-1).astype(np.uint8)
    [shown] = frames(colour("YBR_FULL", ybr, planar=planar), tmp_path / "two")
    assert np.abs(shown - SHOWN).max() <= 1


def test_colour_of_which_every_second_is_stored(tmp_path: Path) -> None:
    luma = SHOWN.astype(np.uint8).reshape(-1, 2)
    grey = np.full((len(luma), 2), 128, np.uint8)
    ds = colour("YBR_FULL_422", np.zeros((8, 8, 3), np.uint8), planar=0)
    ds.PixelData = np.hstack([luma, grey]).tobytes()  # Y Y Cb Cr, PS3.3 C.7.6.3.1.2
    [shown] = frames(ds, tmp_path / "one")
    assert np.abs(shown - SHOWN).max() <= 1


def test_a_rescale_of_each_frame_and_a_window_of_all(tmp_path: Path) -> None:
    ds = blank()
    ds.NumberOfFrames = 2
    stored = np.rint(RAMP * 1000).astype(np.uint16)
    ds.PixelData = np.stack([stored, stored]).tobytes()

    def item(**attributes: float) -> Dataset:
        one = Dataset()
        for keyword, value in attributes.items():
            setattr(one, keyword, value)
        return one

    shared, groups = Dataset(), []
    shared.FrameVOILUTSequence = Sequence([item(WindowCenter=500, WindowWidth=1001)])
    ds.SharedFunctionalGroupsSequence = Sequence([shared])
    for slope in (1, 0.5):
        group = Dataset()
        group.PixelValueTransformationSequence = Sequence([item(RescaleSlope=slope, RescaleIntercept=0)])
        groups.append(group)
    ds.PerFrameFunctionalGroupsSequence = Sequence(groups)
    first, second = frames(ds, tmp_path / "one")
    assert np.abs(first - SHOWN).max() <= 1
    assert np.abs(second - SHOWN / 2).max() <= 1


def test_bytes_after_the_end_are_no_matter(tmp_path: Path) -> None:
    ds = phantoms.dicom([RAMP], "knee", 1)
    [expected] = frames(ds, tmp_path / "one")
    for trailing in (bytes(1), bytes(511), b"\xff" * 64):
        (tmp_path / "long").write_bytes((tmp_path / "one").read_bytes() + trailing)
        [frame] = read_frames(tmp_path / "long")
        assert (frame.pixels == expected).all()


def test_video_and_slides_are_left_out_by_name(tmp_path: Path) -> None:
    ds = phantoms.dicom([RAMP], "knee", 1)
    ds.SOPClassUID, ds.ImageType = "1.2.840.10008.5.1.4.1.1.77.1.6", ["ORIGINAL", "PRIMARY", "LABEL", "NONE"]
    ds.save_as(tmp_path / "label", enforce_file_format=True)
    ds.ImageType, ds.NumberOfFrames, ds.PixelData = ["ORIGINAL", "PRIMARY", "VOLUME"], 2, ds.PixelData * 2
    ds.save_as(tmp_path / "tiles", enforce_file_format=True)
    ds.ImageType, ds.NumberOfFrames, ds.PixelData = ["DERIVED", "PRIMARY", "THUMBNAIL"], 1, ds.PixelData[:128]
    ds.save_as(tmp_path / "thumbnail", enforce_file_format=True)
    assert len(list(read_frames(tmp_path / "thumbnail"))) == 1
    content = (tmp_path / "thumbnail").read_bytes()
    video = b"1.2.840.10008.1.2.4.102\0"
    start, length = content.index(b"\x02\x00\x10\x00UI"), content[140:144]
    size = int.from_bytes(content[start + 6 : start + 8], "little")
    group = int.from_bytes(length, "little") - size + len(video)
    (tmp_path / "video").write_bytes(
        content[:140] + group.to_bytes(4, "little") + content[144:start] + b"\x02\x00\x10\x00UI"
        + len(video).to_bytes(2, "little") + video + content[start + 8 + size :]
    )  # fmt: skip
    for name, reason, detail in (
        ("label", Reason.NOT_A_PICTURE, "label of a whole slide"),
        ("tiles", Reason.NOT_A_PICTURE, "level of a whole slide in 2 tiles"),
        ("video", Reason.UNSUPPORTED, "video: MPEG-4 AVC/H.264 High Profile / Level 4.1"),
    ):
        with pytest.raises(ImageError) as raised:
            list(read_frames(tmp_path / name))
        assert (raised.value.reason, raised.value.detail) == (reason, detail)
