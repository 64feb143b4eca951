"""A dataset's pixel description (PS3.3 C.7.6.3), made whole before it is decoded: what is missing, or cannot be so.

The element itself decides whether pixels are compressed: it is of undefined length, in fragments, or it is not
(PS3.5 annex A.4); the code stream's own signature says by what. A transfer syntax that says otherwise is wrong.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from pydicom.datadict import dictionary_description
from pydicom.dataset import Dataset
from pydicom.uid import (
    HTJ2K,
    JPEG2000,
    UID,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000TransferSyntaxes,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    JPEGLSNearLossless,
    MPEGTransferSyntaxes,
    RLELossless,
)

from model.images.code_streams import JPEG_XL as XL_SIGNATURES
from model.images.code_streams import frame_header
from model.images.elements import number, text
from model.images.fragments import fragments_of
from model.images.pixel_data import PixelData

_MISSING: Final = "the file does not say"

_KNOWN: Final = frozenset(
    {"MONOCHROME1", "MONOCHROME2", "PALETTE COLOR", "RGB", "YBR_FULL", "YBR_FULL_422", "YBR_PARTIAL_420", "YBR_ICT"}
    | {"YBR_RCT", "YBR_PARTIAL_422", "XYB"}
)

_ONE_SAMPLE: Final = frozenset({"MONOCHROME1", "MONOCHROME2", "PALETTE COLOR"})

JPEG_XL_LOSSLESS, JPEG_XL_RECOMPRESSED, JPEG_XL = (UID(f"1.2.840.10008.1.2.4.{number}") for number in (110, 111, 112))
"""PS3.5 annex A.4.12; pydicom does not know them yet."""

JPEG_XL_SYNTAXES: Final = frozenset({JPEG_XL_LOSSLESS, JPEG_XL_RECOMPRESSED, JPEG_XL})

_CODE_STREAMS: Final = (
    frozenset({JPEGBaseline8Bit, JPEGExtended12Bit}),
    frozenset({JPEGLossless, JPEGLosslessSV1}),
    frozenset({JPEGLSLossless, JPEGLSNearLossless}),
    frozenset(JPEG2000TransferSyntaxes),
    JPEG_XL_SYNTAXES,
    frozenset({RLELossless}),
)
"""Transfer syntaxes whose code streams begin alike."""

ENCAPSULATED: Final = frozenset.union(*_CODE_STREAMS)

_FRAME_HEADERS: Final = {
    0xC0: JPEGBaseline8Bit,
    0xC1: JPEGExtended12Bit,
    0xC2: JPEGExtended12Bit,
    0xC3: JPEGLosslessSV1,
    0xF7: JPEGLSNearLossless,
}
"""Transfer syntax by the frame header of a JPEG stream (ISO 10918-1 table B.1, ISO 14495-1)."""


_Setting = tuple[str, Any, str]
"""Keyword, value, and why it is set."""


def complete(ds: Dataset, pixels: PixelData | None) -> list[str]:
    """Set, in place, what the decoders need and the dataset lacks, or has in a way that they do not understand.

    Returns:
        What was set and why, in words.
    """
    notes: list[str] = []
    for keyword, value, why in (*_photometric(ds), *_description(ds)):
        _set(ds, keyword, value)
        notes.append(f"{dictionary_description(keyword)} {value}: {why}")
    if number(ds, "SamplesPerPixel") == 3 and number(ds, "PlanarConfiguration") is None:
        _set(ds, "PlanarConfiguration", 0)
        notes.append(f"Planar Configuration 0: {_MISSING}")
    if pixels is not None and (found := _other_syntax(ds, pixels)):
        name = UID(ds.file_meta.TransferSyntaxUID).name
        notes.append(f"transfer syntax: the pixel data are {found.name}, though the file says {name}")
        ds.file_meta.TransferSyntaxUID = found
    if pixels is not None and _is_rgb_by_length(ds, pixels):
        _set(ds, "PhotometricInterpretation", "RGB")
        notes.append("Photometric Interpretation RGB: the pixel data are too long for YBR_FULL_422")
    return notes


def _photometric(ds: Dataset) -> Iterator[_Setting]:
    written = text(ds, "PhotometricInterpretation")
    photometric = " ".join(written.replace("_", " ").split())
    photometric = photometric.replace(" ", "_") if photometric.startswith("YBR") else photometric
    samples = number(ds, "SamplesPerPixel")
    if photometric not in _KNOWN or ((samples == 3) == (photometric in _ONE_SAMPLE) and samples in {1, 3}):
        photometric = "RGB" if samples == 3 else "MONOCHROME2"
    if samples is None:
        yield "SamplesPerPixel", 1 if photometric in _ONE_SAMPLE else 3, _MISSING
    if not _is_written_so(ds, "PhotometricInterpretation", photometric):
        yield "PhotometricInterpretation", photometric, f"the file says {written!r}" if written else _MISSING


def _description(ds: Dataset) -> Iterator[_Setting]:
    bits, stored = number(ds, "BitsAllocated"), number(ds, "BitsStored")
    if bits is not None and (stored is None or not 1 <= stored <= bits):
        yield "BitsStored", int(bits), _MISSING if stored is None else f"the file says {stored:g}"
    if "NumberOfFrames" in ds and not text(ds, "NumberOfFrames").isdecimal():
        frames = max(1, int(number(ds, "NumberOfFrames") or 1))
        yield "NumberOfFrames", frames, "the file does not say a whole number"
    if number(ds, "PixelRepresentation") is None:
        yield "PixelRepresentation", 0, _MISSING


def bits_above(ds: Dataset) -> int:
    """By how many bits the stored ones lie higher than the lowest (PS3.5 section 8.1.1); 0 in every usual file."""
    high, stored, allocated = (number(ds, name) for name in ("HighBit", "BitsStored", "BitsAllocated"))
    if high is None or stored is None or allocated is None or not stored - 1 < high < allocated:
        return 0
    return int(high + 1 - stored)


def frame_bits(ds: Dataset) -> int:
    """Bits of one uncompressed frame; frames follow each other without a gap (PS3.5 section 8.1.1)."""
    rows, columns, allocated = (int(number(ds, name) or 0) for name in ("Rows", "Columns", "BitsAllocated"))
    samples = int(number(ds, "SamplesPerPixel") or 1)
    bits = rows * columns * samples * allocated
    subsampled = text(ds, "PhotometricInterpretation") in {"YBR_FULL_422", "YBR_PARTIAL_422"}
    return bits // 3 * 2 if subsampled else bits


def native_length(ds: Dataset, frames: int) -> int:
    """Bytes of uncompressed pixel data of so many frames, without padding."""
    return (frame_bits(ds) * frames + 7) // 8


def _other_syntax(ds: Dataset, pixels: PixelData) -> UID | None:
    """The transfer syntax of the pixel data, if it is another one than the file says."""
    syntax = UID(ds.file_meta.TransferSyntaxUID)
    if syntax in MPEGTransferSyntaxes or pixels.length < 8:
        return None
    if pixels.compressed or pixels.length < native_length(ds, 1):
        found = _syntax_of(_first_stream(pixels))
        alike = next((group for group in _CODE_STREAMS if found in group), frozenset())
        return found if found and syntax not in alike else None
    if syntax in ENCAPSULATED:
        implicit, little = ds.original_encoding
        return ImplicitVRLittleEndian if implicit else ExplicitVRLittleEndian if little else ExplicitVRBigEndian
    return None


def _first_stream(pixels: PixelData) -> bytes:
    """The first fragment that holds something, or all of pixel data without fragments."""
    if not pixels.compressed:
        return pixels.read(0, pixels.length)
    with pixels.open() as file:
        first = next((one for one in fragments_of(file, pixels.start) if not one.empty), None)
    return pixels.read(first.place - pixels.start, first.length) if first else b""


def _syntax_of(stream: bytes) -> UID | None:
    """What a code stream is, by its first bytes; ``None`` if it is none that DICOM knows."""
    if stream[:4] == b"\xff\x4f\xff\x51":
        return HTJ2K if b"\xff\x50" in stream[:256] else JPEG2000
    if stream.startswith(XL_SIGNATURES):
        return JPEG_XL
    if stream[:2] == b"\xff\xd8":
        header = frame_header(stream)
        return _FRAME_HEADERS[header.marker] if header else None
    segments = int.from_bytes(stream[:4], "little")
    if 1 <= segments <= 15 and stream[4:8] == b"\x40\x00\x00\x00":  # PS3.5 annex G.5
        return RLELossless
    return None


def _is_rgb_by_length(ds: Dataset, pixels: PixelData) -> bool:
    """Whether native YBR_FULL_422 is as long as RGB: a writer that had decompressed it left the old name."""
    frames = max(1, int(number(ds, "NumberOfFrames") or 1))
    subsampled = text(ds, "PhotometricInterpretation") == "YBR_FULL_422" and not pixels.compressed
    return subsampled and pixels.length >= native_length(ds, frames) // 2 * 3


def _is_written_so(ds: Dataset, keyword: str, value: str) -> bool:
    element = ds.get_item(keyword)
    there = element.value if element is not None else None
    if isinstance(there, bytes):
        there = there.decode("ascii", "replace").strip(" \0")
    return bool(there == value)


def _set(ds: Dataset, keyword: str, value: Any) -> None:
    if keyword in ds:
        del ds[keyword]  # as it is written it may not even be convertible
    setattr(ds, keyword, value)
