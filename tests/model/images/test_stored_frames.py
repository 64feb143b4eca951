"""Frames of every form that pixel data take in archives, from memory and from a file, and broken ones among them."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from pydicom._uid_dict import UID_dictionary
from pydicom.dataset import FileDataset
from pydicom.encaps import encapsulate, generate_frames
from pydicom.uid import (
    UID,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    HTJ2KLossless,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGLosslessSV1,
    JPEGLSLossless,
    JPEGLSNearLossless,
    RLELossless,
)

from model.errors import ImageError, Reason
from model.images.frames import BrokenFrame, Frame
from model.images.inspection import inspect_file
from model.images.reading import read_each_frame, read_frames
from tests.model.images.test_pixel_kinds import RAMP, SHOWN, blank, colour, frames
from tests.support import phantoms

STORED = np.rint(RAMP * 4095).astype(np.uint16)


def cine(syntax: Any, count: int = 4) -> FileDataset:
    return phantoms.dicom([phantoms.draw("brain", seed, 32) for seed in range(count)], "brain", "cine", syntax=syntax)


@pytest.fixture
def _known_jpeg_xl(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have pydicom write what it does not know yet."""
    known = {
        f"1.2.840.10008.1.2.4.{number}": ("JPEG XL", "Transfer Syntax", "", "", "JPEGXL") for number in (110, 111, 112)
    }
    for uid, entry in known.items():
        monkeypatch.setitem(UID_dictionary, uid, entry)


def compressed(streams: list[bytes], syntax: UID, *, bits: int = 16, stored: int = 12) -> FileDataset:
    ds = blank()
    ds.BitsAllocated, ds.BitsStored, ds.HighBit = bits, stored, stored - 1
    if len(streams) > 1:
        ds.NumberOfFrames = len(streams)
    ds.file_meta.TransferSyntaxUID, ds.PixelData = syntax, encapsulate(streams)
    return ds


@pytest.fixture(params=["in memory", "in a file"])
def everywhere(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Both ways in which a source holds its bytes."""
    if request.param == "in a file":
        monkeypatch.setattr("model.images.sources.WHOLE_FILE_LIMIT", 100)
    return str(request.param)


def parts(path: Path) -> tuple[list[int], list[int]]:
    """Numbers of the whole frames, and of the broken ones."""
    found = list(read_each_frame(path))
    whole = [frame.number for frame in found if isinstance(frame, Frame)]
    return whole, [frame.number for frame in found if isinstance(frame, BrokenFrame)]


@pytest.mark.usefixtures("everywhere")
@pytest.mark.parametrize("syntax", [JPEGLSLossless, RLELossless, JPEG2000Lossless, JPEGLosslessSV1, HTJ2KLossless])
def test_a_broken_frame_costs_no_other(tmp_path: Path, syntax: UID) -> None:
    values = [np.roll(STORED, number) for number in range(4)]
    if syntax == HTJ2KLossless:
        large = [np.tile(one, (8, 8)) for one in values]
        ds = compressed([bytes(imagecodecs.htj2k_encode(one)) for one in large], syntax)
        ds.Rows = ds.Columns = 64
    elif syntax == JPEGLosslessSV1:
        lossless: dict[str, Any] = {"lossless": True, "predictor": 1, "bitspersample": 16}
        ds = compressed([bytes(imagecodecs.jpeg8_encode(one, **lossless)) for one in values], syntax)
    else:
        ds = cine(syntax)
    ds.save_as(tmp_path / "whole", enforce_file_format=True)
    good = [frame.pixels for frame in read_frames(tmp_path / "whole")]
    streams = [bytes(stream) for stream in generate_frames(ds.PixelData, number_of_frames=4)]
    ds.PixelData = encapsulate([streams[0], streams[1][: len(streams[1]) // 4 * 2], *streams[2:]])
    ds.save_as(tmp_path / "broken", enforce_file_format=True)
    assert parts(tmp_path / "broken") == ([1, 3, 4], [2])
    [third] = read_frames(tmp_path / "broken", only=3)
    assert (third.pixels == good[2]).all()
    with pytest.raises(ImageError, match="frame 2 of 4: ") as caught:
        list(read_frames(tmp_path / "broken"))
    assert caught.value.reason is Reason.CORRUPT
    assert inspect_file(tmp_path / "broken", 4).frame.number == 4
    with pytest.raises(ImageError, match="frame 2 of 4: "):
        inspect_file(tmp_path / "broken", 2)


@pytest.mark.usefixtures("everywhere")
@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, JPEGLSLossless])
def test_a_file_that_was_cut_off_keeps_its_whole_frames(tmp_path: Path, syntax: UID) -> None:
    cine(syntax).save_as(tmp_path / "whole", enforce_file_format=True)
    content = (tmp_path / "whole").read_bytes()
    (tmp_path / "cut").write_bytes(content[: int(len(content) * 0.7)])
    whole, broken = parts(tmp_path / "cut")
    assert (whole, broken) == ([1, 2], [3, 4])
    assert [frame.identity for frame in read_each_frame(tmp_path / "cut") if isinstance(frame, Frame)] == [
        frame.identity for frame in list(read_frames(tmp_path / "whole"))[:2]
    ]


def test_a_jpeg_ls_stream_without_its_end_marker_is_whole(tmp_path: Path) -> None:
    ds = cine(JPEGLSLossless)
    ds.save_as(tmp_path / "marked", enforce_file_format=True)
    streams = [bytes(stream).rstrip(b"\0") for stream in generate_frames(ds.PixelData, number_of_frames=4)]
    assert all(stream.endswith(b"\xff\xd9") for stream in streams)
    ds.PixelData = encapsulate([stream[:-2] for stream in streams])
    ds.save_as(tmp_path / "unmarked", enforce_file_format=True)
    assert [frame.identity for frame in read_frames(tmp_path / "unmarked")] == [
        frame.identity for frame in read_frames(tmp_path / "marked")
    ]


@pytest.mark.usefixtures("everywhere")
def test_a_page_that_is_broken_costs_no_other(tmp_path: Path) -> None:
    pages = [Image.fromarray(np.full((64, 64), 40 * number, np.uint8)) for number in range(1, 4)]
    content = BytesIO()
    pages[0].save(content, format="TIFF", save_all=True, append_images=pages[1:], compression="tiff_deflate")
    damaged = bytearray(content.getvalue())
    streams = [at for at in range(len(damaged)) if damaged[at : at + 2] == b"\x78\x9c"]
    damaged[streams[1] : streams[1] + 8] = bytes(8)
    (tmp_path / "pages").write_bytes(damaged)
    assert parts(tmp_path / "pages") == ([1, 3], [2])


def test_pages_before_a_directory_that_is_cut_off_are_kept(tmp_path: Path) -> None:
    pages = [Image.fromarray(np.full((64, 64), 40 * number, np.uint8)) for number in range(1, 4)]
    content = BytesIO()
    pages[0].save(content, format="TIFF", save_all=True, append_images=pages[1:])
    (tmp_path / "pages").write_bytes(content.getvalue()[:-40])
    assert parts(tmp_path / "pages")[0][:2] == [1, 2]


@pytest.mark.usefixtures("everywhere")
def test_frames_of_single_bits_follow_each_other_within_a_byte(tmp_path: Path) -> None:
    masks = np.random.default_rng(0).random((5, 7, 9)) > 0.5
    ds = blank()
    ds.Rows, ds.Columns, ds.NumberOfFrames = 7, 9, 5
    ds.BitsAllocated, ds.BitsStored, ds.HighBit = 1, 1, 0
    ds.PixelData = np.packbits(masks.ravel(), bitorder="little").tobytes()
    ds["PixelData"].VR = "OB"
    for shown, mask in zip(frames(ds, tmp_path / "bits"), masks, strict=True):
        assert (shown == mask * 255).all()


@pytest.mark.usefixtures("everywhere")
@pytest.mark.parametrize("count", [1, 3])
def test_bytes_in_words_of_the_other_order(tmp_path: Path, count: int) -> None:
    values = np.random.default_rng(0).integers(0, 256, (count, 5, 5)).astype(np.uint8)
    values[:, 0, :2] = 0, 255
    ds = blank(ExplicitVRBigEndian)
    ds.Rows = ds.Columns = 5
    ds.NumberOfFrames, ds.BitsAllocated, ds.BitsStored, ds.HighBit = count, 8, 8, 7
    written = values.tobytes() + b"\0" * (values.size % 2)
    ds.PixelData = np.frombuffer(written, "<u2").byteswap().tobytes()
    ds["PixelData"].VR = "OW"
    assert (np.stack(frames(ds, tmp_path / "swapped")) == values).all()


@pytest.mark.usefixtures("everywhere")
def test_bits_above_the_stored_ones_and_wrong_syntaxes(tmp_path: Path) -> None:
    expected = np.rint(RAMP * 255)
    high = blank()
    high.NumberOfFrames, high.HighBit = 2, 15
    high.PixelData = np.stack([STORED << 4, STORED << 4]).tobytes()
    for shown in frames(high, tmp_path / "high"):
        assert np.abs(shown - expected).max() <= 1
    wrong = compressed([bytes(imagecodecs.jpegls_encode(STORED))] * 2, JPEG2000Lossless)
    for shown in frames(wrong, tmp_path / "wrong"):
        assert np.abs(shown - expected).max() <= 1
    native = blank()
    native.file_meta.TransferSyntaxUID, native.PixelData = JPEGBaseline8Bit, encapsulate([b"\0\0"])
    native.save_as(tmp_path / "native", enforce_file_format=True)
    bare = bytes(imagecodecs.jpegls_encode(np.tile(STORED, (32, 32))))
    unwrapped = blank()
    unwrapped.Rows = unwrapped.Columns = 256
    unwrapped.PixelData = bare + b"\0" * (len(bare) % 2)
    unwrapped["PixelData"].VR = "OB"
    [shown] = frames(unwrapped, tmp_path / "bare")
    assert np.abs(shown - np.tile(expected, (32, 32))).max() <= 1


def test_an_overlay_in_the_samples_is_not_shown(tmp_path: Path) -> None:
    overlay = ((RAMP > 0.7) * 0x8000).astype(np.uint16)
    for syntax, stream in (
        (JPEG2000Lossless, imagecodecs.jpeg2k_encode(STORED | overlay, codecformat="j2k", reversible=True, level=0)),
        (JPEGLSLossless, imagecodecs.jpegls_encode(STORED | overlay)),
    ):
        [shown] = frames(compressed([bytes(stream)], syntax), tmp_path / syntax)
        assert np.abs(shown - SHOWN).max() <= 1


def test_ybr_of_partial_range(tmp_path: Path) -> None:
    luma = np.rint(16 + RAMP * 219).astype(np.uint8).reshape(-1, 2)
    ds = colour("YBR_PARTIAL_422", np.zeros((8, 8, 3), np.uint8), planar=0)
    ds.PixelData = np.hstack([luma, np.full((len(luma), 2), 128, np.uint8)]).tobytes()
    [shown] = frames(ds, tmp_path / "partial")
    assert np.abs(shown - SHOWN).max() <= 1


@pytest.mark.parametrize(
    ("photometric", "shape", "inverted"),
    [
        ("MONOCHROME2", "INVERSE", True),
        ("MONOCHROME1", "INVERSE", True),
        ("MONOCHROME2", "IDENTITY", False),
        ("MONOCHROME1", "IDENTITY", True),
    ],
)
def test_the_presentation_lut_shape_is_the_last_step(
    tmp_path: Path, photometric: str, shape: str, inverted: bool
) -> None:
    ds = blank()
    ds.PhotometricInterpretation, ds.PresentationLUTShape, ds.PixelData = photometric, shape, STORED.tobytes()
    [shown] = frames(ds, tmp_path / "shape")
    assert np.abs(shown - (255 - SHOWN if inverted else SHOWN)).max() <= 1


@pytest.mark.usefixtures("everywhere", "_known_jpeg_xl")
@pytest.mark.parametrize("number", [110, 111, 112])
def test_jpeg_xl(tmp_path: Path, number: int) -> None:
    stream = bytes(imagecodecs.jpegxl_encode(STORED, lossless=True))
    [shown] = frames(compressed([stream], UID(f"1.2.840.10008.1.2.4.{number}")), tmp_path / "grey")
    assert np.abs(shown - SHOWN).max() <= 1
    rgb = np.stack([SHOWN, SHOWN, SHOWN], axis=-1).astype(np.uint8)
    ds = colour("RGB", rgb, planar=0)
    ds.file_meta.TransferSyntaxUID = UID(f"1.2.840.10008.1.2.4.{number}")
    ds.PixelData = encapsulate([bytes(imagecodecs.jpegxl_encode(rgb, lossless=True))])
    [shown] = frames(ds, tmp_path / "colour")
    assert np.abs(shown - SHOWN).max() <= 1
    assert inspect_file(tmp_path / "colour").facts["decoder"].startswith("imagecodecs ")
    below = (STORED.astype(np.int16) - 2048).view(np.uint16)
    stream = bytes(imagecodecs.jpegxl_encode(below, lossless=True))
    signed = compressed([stream], UID(f"1.2.840.10008.1.2.4.{number}"))
    signed.PixelRepresentation = 1
    [shown] = frames(signed, tmp_path / "signed")
    assert np.abs(shown - SHOWN).max() <= 1


@pytest.mark.parametrize("tolerance", [0, 1, 3, 6])
def test_padding_is_found_within_the_tolerance_of_the_stream(tmp_path: Path, tolerance: int) -> None:
    values = np.full((64, 64), 1000, np.uint16)
    values[20:40] = 2000
    values[40:] = np.arange(64) + 40
    values[:, :8] = 30
    stream = bytes(imagecodecs.jpegls_encode(values, level=tolerance))
    changed: NDArray[np.uint16] = imagecodecs.jpegls_decode(stream)
    assert np.abs(changed.astype(int) - values).max() <= tolerance
    ds = compressed([stream], JPEGLSNearLossless)
    ds.Rows = ds.Columns = 64
    ds.add_new("PixelPaddingValue", "US", 30)
    [shown] = frames(ds, tmp_path / "near")
    assert (shown[:, :8] == 0).all()
    near = np.abs(changed.astype(int) - 30) <= tolerance
    assert ((shown == 0) >= near).all()
    assert shown[30, 30] == 255


def test_what_is_no_dicom_is_not_called_so(tmp_path: Path) -> None:
    segments = (2).to_bytes(4, "little") + (64).to_bytes(4, "little") + bytes(200)
    for name, content in (("frame.rle", segments), ("model.bin", b"\x08\x00\x01\x00" + bytes(range(200)))):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ImageError) as caught:
            list(read_frames(tmp_path / name))
        assert caught.value.reason is Reason.NOT_AN_IMAGE, name


def test_inspect_says_what_was_not_taken_as_it_is_written(tmp_path: Path) -> None:
    ds = blank()
    ds.PixelData = STORED.tobytes()
    ds.add_new("WindowCenter", "LO", "2048,5 HU")
    ds.add_new("WindowWidth", "LO", "wide")
    del ds.PixelRepresentation
    ds.save_as(tmp_path / "one", enforce_file_format=True)
    notes = inspect_file(tmp_path / "one").facts["notes"]
    assert "Window Center '2048,5 HU': 2048.5 taken of it" in notes
    assert "Window Width 'wide': nothing taken of it" in notes
    assert "Pixel Representation 0: the file does not say" in notes
    whole = blank()
    whole.PixelData, whole.WindowCenter, whole.WindowWidth = STORED.tobytes(), 2048, 4096
    whole.save_as(tmp_path / "two", enforce_file_format=True)
    assert "notes" not in inspect_file(tmp_path / "two").facts


def test_processes_of_jpeg_that_were_retired(shared_data: Path) -> None:
    folder = shared_data / "dicom" / "cornerstone3D"
    [extended] = read_frames(folder / "CTImage.dcm_JPEGProcess2_4TransferSyntax_1.2.840.10008.1.2.4.51.dcm")
    for name in ("6_8TransferSyntax_1.2.840.10008.1.2.4.53", "10_12TransferSyntax_1.2.840.10008.1.2.4.55"):
        [frame] = read_frames(folder / f"CTImage.dcm_JPEGProcess{name}.dcm")
        assert (frame.pixels == extended.pixels).all()
