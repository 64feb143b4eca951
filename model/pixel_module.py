"""A dataset's pixel description (PS3.3 C.7.6.3), made whole before it is decoded: what is missing, or cannot be so.

The element itself decides whether pixels are compressed: it is of undefined length, in fragments, or it is not
(PS3.5 annex A.4); the code stream's own signature says by what. A transfer syntax that says otherwise is wrong.
"""

from __future__ import annotations

from typing import Any, Final

from pydicom.dataset import Dataset
from pydicom.uid import (
    HTJ2K,
    JPEG2000,
    UID,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLosslessSV1,
    JPEGLSNearLossless,
    MPEGTransferSyntaxes,
    RLELossless,
)

from model.code_streams import frame_header
from model.elements import number, text
from model.fragments import ITEM, fragments_of

_KNOWN: Final = frozenset(
    {"MONOCHROME1", "MONOCHROME2", "PALETTE COLOR", "RGB", "YBR_FULL", "YBR_FULL_422", "YBR_PARTIAL_420", "YBR_ICT"}
    | {"YBR_RCT", "YBR_PARTIAL_422", "XYB"}
)

_FRAME_HEADERS: Final = {
    0xC0: JPEGBaseline8Bit,
    0xC1: JPEGExtended12Bit,
    0xC2: JPEGExtended12Bit,
    0xC3: JPEGLosslessSV1,
    0xF7: JPEGLSNearLossless,
}
"""Transfer syntax by the frame header of a JPEG stream (ISO 10918-1 table B.1, ISO 14495-1)."""


def complete(ds: Dataset) -> None:
    """Set, in place, what the decoders need and the dataset lacks, or has in a way that they do not understand."""
    photometric = " ".join(text(ds, "PhotometricInterpretation").replace("_", " ").split())
    photometric = photometric.replace(" ", "_") if photometric.startswith("YBR") else photometric
    samples = number(ds, "SamplesPerPixel")
    if photometric not in _KNOWN:
        photometric = "RGB" if samples == 3 else "MONOCHROME2"
    if samples is None:
        _set(ds, "SamplesPerPixel", 1 if photometric in {"MONOCHROME1", "MONOCHROME2", "PALETTE COLOR"} else 3)
    _set_if_other(ds, "PhotometricInterpretation", photometric)
    if number(ds, "BitsAllocated") is not None:
        allocated = int(number(ds, "BitsAllocated") or 8)
        stored = number(ds, "BitsStored")
        if stored is None or not 1 <= stored <= allocated:
            _set(ds, "BitsStored", allocated)
    if number(ds, "PixelRepresentation") is None:
        _set(ds, "PixelRepresentation", 0)
    if number(ds, "SamplesPerPixel") == 3 and number(ds, "PlanarConfiguration") is None:
        _set(ds, "PlanarConfiguration", 0)
    _settle_syntax(ds)
    _settle_subsampling(ds)


def bits_above(ds: Dataset) -> int:
    """By how many bits the stored ones lie higher than the lowest (PS3.5 section 8.1.1); 0 in every usual file."""
    high, stored, allocated = (number(ds, name) for name in ("HighBit", "BitsStored", "BitsAllocated"))
    if high is None or stored is None or allocated is None or not stored - 1 < high < allocated:
        return 0
    return int(high + 1 - stored)


def native_length(ds: Dataset, frames: int) -> int:
    """Bytes of uncompressed pixel data of so many frames, without padding."""
    rows, columns, allocated = (int(number(ds, name) or 0) for name in ("Rows", "Columns", "BitsAllocated"))
    samples = int(number(ds, "SamplesPerPixel") or 1)
    bits = rows * columns * samples * allocated
    if text(ds, "PhotometricInterpretation") in {"YBR_FULL_422", "YBR_PARTIAL_422"}:
        bits = bits // 3 * 2
    return (bits * frames + 7) // 8


def _settle_syntax(ds: Dataset) -> None:
    element = ds.get_item("PixelData")
    value: Any = element.value if element is not None else None
    if not isinstance(value, bytes | bytearray) or len(value) < 8:
        return
    syntax = UID(ds.file_meta.TransferSyntaxUID)
    if syntax in MPEGTransferSyntaxes:
        return
    compressed = bool(getattr(element, "is_undefined_length", False)) or value[:4] == ITEM
    if compressed and not syntax.is_encapsulated:
        found = _syntax_of(next((one for one in fragments_of(bytes(value)) if one), b""))
        if found:
            ds.file_meta.TransferSyntaxUID = found
    elif not compressed and syntax.is_encapsulated and len(value) >= native_length(ds, 1):
        implicit, little = ds.original_encoding
        native = ImplicitVRLittleEndian if implicit else ExplicitVRLittleEndian if little else ExplicitVRBigEndian
        ds.file_meta.TransferSyntaxUID = native


def _syntax_of(stream: bytes) -> UID | None:
    """What a code stream is, by its first bytes; ``None`` if it is none that DICOM knows."""
    if stream[:4] == b"\xff\x4f\xff\x51":
        return HTJ2K if b"\xff\x50" in stream[:256] else JPEG2000
    if stream[:2] == b"\xff\xd8":
        header = frame_header(stream)
        return _FRAME_HEADERS[header.marker] if header else None
    segments = int.from_bytes(stream[:4], "little")
    if 1 <= segments <= 15 and stream[4:8] == b"\x40\x00\x00\x00":  # PS3.5 annex G.5
        return RLELossless
    return None


def _settle_subsampling(ds: Dataset) -> None:
    """Native YBR_FULL_422 that is as long as RGB is RGB: a writer that had decompressed it left the old name."""
    element = ds.get_item("PixelData")
    value: Any = element.value if element is not None else None
    if text(ds, "PhotometricInterpretation") != "YBR_FULL_422" or not isinstance(value, bytes | bytearray):
        return
    frames = max(1, int(number(ds, "NumberOfFrames") or 1))
    if not UID(ds.file_meta.TransferSyntaxUID).is_encapsulated and len(value) >= native_length(ds, frames) // 2 * 3:
        _set(ds, "PhotometricInterpretation", "RGB")


def _set_if_other(ds: Dataset, keyword: str, value: str) -> None:
    element = ds.get_item(keyword)
    there = element.value if element is not None else None
    if isinstance(there, bytes):
        there = there.decode("ascii", "replace").strip(" \0")
    if there != value:
        _set(ds, keyword, value)


def _set(ds: Dataset, keyword: str, value: Any) -> None:
    if keyword in ds:
        del ds[keyword]  # as it is written it may not even be convertible
    setattr(ds, keyword, value)
