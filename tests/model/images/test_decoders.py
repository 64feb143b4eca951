from __future__ import annotations

import resource
from pathlib import Path

import imagecodecs
import numpy as np
import pytest
from numpy.typing import NDArray
from pydicom.encaps import encapsulate
from pydicom.pixels.decoders.base import get_decoder
from pydicom.uid import (
    HTJ2K,
    UID,
    HTJ2KLossless,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    JPEGLSNearLossless,
    RLELossless,
)

from model.errors import ImageError, Reason
from model.images.decoders import ORDER
from model.images.reading import read_frames
from tests.support import phantoms

Values = NDArray[np.generic]


def encode(values: NDArray[np.uint16], syntax: UID) -> bytes:
    """A code stream by a library that has no part in pydicom's own encoders."""
    match syntax:
        case str() if syntax == JPEGBaseline8Bit:
            code = imagecodecs.jpeg8_encode((values >> 4).astype(np.uint8), level=98)
        case str() if syntax == JPEGExtended12Bit:
            code = imagecodecs.jpeg8_encode(values, level=98, bitspersample=12)
        case str() if syntax in (JPEGLossless, JPEGLosslessSV1):
            code = imagecodecs.jpeg8_encode(values, lossless=True, predictor=1, bitspersample=16)
        case str() if syntax in (JPEGLSLossless, JPEGLSNearLossless):
            code = imagecodecs.jpegls_encode(values, level=2 * (syntax == JPEGLSNearLossless))
        case str() if syntax in (HTJ2K, HTJ2KLossless):
            code = imagecodecs.htj2k_encode(values)
        case _:
            code = imagecodecs.jpeg2k_encode(values, codecformat="j2k", reversible=True, level=0)
    return bytes(code)


def write(path: Path, values: NDArray[np.uint16], syntax: UID, *, columns: int | None = None) -> Path:
    ds = phantoms.dicom([phantoms.draw("knee", 1)], "knee", 1)
    for keyword in ("WindowCenter", "WindowWidth", "RescaleSlope", "RescaleIntercept"):
        if keyword in ds:
            del ds[keyword]
    bits = 8 if syntax == JPEGBaseline8Bit else 16
    ds.Rows, ds.Columns = values.shape[0], columns or values.shape[1]
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = bits, min(bits, 12), min(bits, 12) - 1, 0
    ds.PhotometricInterpretation = "MONOCHROME2"
    ds.file_meta.TransferSyntaxUID = syntax
    ds.PixelData = encapsulate([encode(values, syntax)])
    ds.save_as(path, enforce_file_format=True)
    return path


SYNTAXES = (
    JPEGBaseline8Bit, JPEGExtended12Bit, JPEGLossless, JPEGLosslessSV1, JPEGLSLossless, JPEGLSNearLossless,
    JPEG2000Lossless, HTJ2KLossless, HTJ2K,
)  # fmt: skip


@pytest.mark.parametrize("syntax", SYNTAXES, ids=lambda uid: uid.name)
def test_every_compression_gives_back_what_was_compressed(tmp_path: Path, syntax: UID) -> None:
    rows, columns = np.mgrid[:120, :200]
    values = (2000 + 1500 * np.sin(rows / 20) * np.cos(columns / 30)).astype(np.uint16)
    [frame] = read_frames(write(tmp_path / "one.dcm", values, syntax))
    stored = values >> 4 if syntax == JPEGBaseline8Bit else values
    expected = (stored - stored.min()) / float(stored.max() - stored.min()) * 255
    lossless = syntax not in (JPEGBaseline8Bit, JPEGExtended12Bit, JPEGLSNearLossless)
    assert np.abs(frame.pixels - expected).max() <= (1 if lossless else 6)


@pytest.mark.parametrize("syntax", [JPEGBaseline8Bit, JPEGLosslessSV1, HTJ2KLossless], ids=lambda uid: uid.name)
def test_a_frame_of_another_size_than_its_header_is_left_out(tmp_path: Path, syntax: UID) -> None:
    path = write(tmp_path / "one.dcm", np.full((64, 64), 100, np.uint16), syntax, columns=32)
    with pytest.raises(ImageError) as raised:
        list(read_frames(path))
    assert raised.value.reason in (Reason.CORRUPT, Reason.UNSUPPORTED)


def test_the_decoders_are_those_of_the_table_in_its_order() -> None:
    for uid, names in ORDER.items():
        assert tuple(get_decoder(uid)._available) == names


def test_where_a_decoder_panics_the_next_one_is_asked(tmp_path: Path) -> None:
    """pylibjpeg-rle is written in Rust; its panic is no Exception, and ended a job (found by tests.fuzz)."""
    ds = phantoms.dicom([phantoms.draw("knee", 1, 16)], "knee", 1, syntax=RLELossless)
    segment = bytes([0x81, 7] * 200)  # decodes to more than the 16 × 16 values that there should be
    starts = b"".join(number.to_bytes(4, "little") for number in (2, 64, 64 + len(segment)))
    ds.PixelData = encapsulate([starts + bytes(52) + segment + segment])
    path = tmp_path / "panic.dcm"
    ds.save_as(path, enforce_file_format=True)
    [frame] = read_frames(path)
    assert len(np.unique(frame.pixels)) == 1


@pytest.mark.parametrize(
    ("syntax", "marker", "offset"),
    [
        (JPEG2000Lossless, b"\xff\x51", 6), (HTJ2KLossless, b"\xff\x51", 6), (JPEGBaseline8Bit, b"\xff\xc0", 5),
        (JPEGLosslessSV1, b"\xff\xc3", 5), (JPEGLSLossless, b"\xff\xf7", 5),
    ],
    ids=lambda value: value.name if isinstance(value, UID) else "",
)  # fmt: skip
def test_a_code_stream_that_asks_for_all_memory_is_refused_before_it_gets_any(
    tmp_path: Path, syntax: UID, marker: bytes, offset: int
) -> None:
    """One damaged byte made a decoder take 16 GB (found by tests.fuzz)."""
    values = np.full((64, 64), 100, np.uint16)
    path = write(tmp_path / "one.dcm", values, syntax)
    content = bytearray(path.read_bytes())
    code = content.index(encode(values, syntax)[:8])
    content[content.index(marker, code) + offset] ^= 0x7F  # the high byte of its height or width
    path.write_bytes(content)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(ImageError, match=r"header says otherwise|failed to read the header"):
        list(read_frames(path))
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 2**16  # kilobytes
