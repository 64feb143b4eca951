"""The stored pixel values of a DICOM object, each frame decoded for itself: what is wrong with one costs no other.

Every way to a frame is this one, from memory or from a file, so that what an index holds is what an inspection shows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.pixels.decoders.base import get_decoder
from pydicom.pixels.utils import as_pixel_options, get_j2k_parameters
from pydicom.uid import (
    UID,
    ExplicitVRBigEndian,
    HTJ2KLossless,
    HTJ2KLosslessRPCL,
    JPEG2000Lossless,
    JPEG2000TransferSyntaxes,
    JPEGLSLossless,
    JPEGLSTransferSyntaxes,
)

from model.images.code_streams import decode, frame_header, near
from model.images.fragments import Fragment, fragments_of, frames_of, offset_table
from model.images.pixel_data import PixelData
from model.images.pixel_module import ENCAPSULATED, JPEG_XL_LOSSLESS, JPEG_XL_SYNTAXES, bits_above, frame_bits

_LOSSLESS: Final = frozenset({JPEG2000Lossless, HTJ2KLossless, HTJ2KLosslessRPCL, JPEGLSLossless})
"""Of the transfer syntaxes whose samples may be wider than Bits Stored."""

_LOSSY: Final = frozenset(f"1.2.840.10008.1.2.4.{number}" for number in ("50", "51", "91", "93", "203", "111", "112"))

_LOSSY_TOLERANCE: Final = 2


@dataclass(frozen=True, slots=True)
class Stored:
    """One frame as it is stored.

    Attributes:
        values: ``(rows, columns)``, or ``(rows, columns, 3)`` in RGB.
        tolerance: by how much its compression may have changed a value.
    """

    values: NDArray[Any]
    tolerance: int = 0


class StoredFrames:
    """The frames of one object.

    Args:
        ds: its header, made whole by :func:`model.images.pixel_module.complete`.
        pixels: its pixel data.
        count: how many frames it has by its header.
    """

    def __init__(self, ds: Dataset, pixels: PixelData, count: int) -> None:
        self._ds, self._pixels, self._count = ds, pixels, count
        self._syntax = UID(ds.file_meta.TransferSyntaxUID)
        self._shift = bits_above(ds)
        self._options = as_pixel_options(ds, number_of_frames=1, pixel_keyword=pixels.keyword)
        self._options.pop("extended_offsets", None)
        self._streams: Sequence[Sequence[Fragment]] = []
        if pixels.compressed:
            with pixels.open() as file:
                offsets = _extended_offsets(ds) or offset_table(file, pixels.start)
                self._streams = frames_of(list(fragments_of(file, pixels.start)), count, offsets)
        elif self._syntax in ENCAPSULATED:  # a code stream that stands there without fragments
            self._streams = [[Fragment(pixels.start, pixels.length, b"", empty=False)]]

    def decode(self, index: int, plugin: str = "") -> Stored:
        """Decode a frame, 0-based; by one plug-in of :data:`model.images.decoders.ORDER`, or by the first that can.

        Raises:
            NotImplementedError: nothing here decodes its transfer syntax.
            Exception: what the decoders raise of damaged frames.
        """
        if self._pixels.compressed or self._syntax in ENCAPSULATED:
            stored = self._decompress(self._stream(index), plugin)
        else:
            stored = Stored(self._native(index))
        if self._shift and stored.values.ndim == 2:
            return Stored(stored.values >> self._shift, stored.tolerance)
        return stored

    def _stream(self, index: int) -> bytes:
        if index >= len(self._streams):
            raise ValueError(f"the pixel data end after {len(self._streams)} frames")
        start = self._pixels.start
        return b"".join(self._pixels.read(one.place - start, one.length) for one in self._streams[index])

    def _decompress(self, stream: bytes, plugin: str) -> Stored:
        tolerance = _LOSSY_TOLERANCE if self._syntax in _LOSSY else 0
        if self._syntax in JPEG_XL_SYNTAXES:
            values = self._checked(decode(stream))
            return Stored(values, 0 if self._syntax == JPEG_XL_LOSSLESS else tolerance)
        if self._syntax not in ENCAPSULATED:
            raise NotImplementedError(f"compressed pixel data under the transfer syntax {self._syntax.name}")
        decoder = get_decoder(self._syntax)
        values, _ = decoder.as_array(
            encapsulate([stream], has_bot=False), index=0, decoding_plugin=plugin, **self._options
        )
        if self._syntax in JPEGLSTransferSyntaxes:
            tolerance = near(stream)
        return Stored(self._without_overlay(values, stream), tolerance)

    def _checked(self, values: NDArray[Any]) -> NDArray[Any]:
        options = self._options
        shape = (options["rows"], options["columns"]) + ((3,) if options["samples_per_pixel"] == 3 else ())
        if values.shape != shape:
            raise ValueError(f"the code stream is of {values.shape} samples, the header says {shape}")
        if options["pixel_representation"] == 1 and values.dtype.kind == "u":  # samples of JPEG XL have no sign
            return _sign_extended(values.view(f"i{values.dtype.itemsize}"), options["bits_stored"])
        return values

    def _without_overlay(self, values: NDArray[Any], stream: bytes) -> NDArray[Any]:
        """Samples that are wider than Bits Stored without their highest bits, which hold an overlay (PS3.5 8.1.1).

        Where compression is lossy those bits may be the pixels' own, unless the header says that an overlay is there.
        """
        stored = int(self._options["bits_stored"]) + self._shift
        if values.ndim != 2 or values.dtype.kind not in "iu" or 8 * values.dtype.itemsize <= stored:
            return values
        if self._syntax in JPEG2000TransferSyntaxes:
            precision = int(get_j2k_parameters(stream).get("precision", stored))
        elif self._syntax in JPEGLSTransferSyntaxes and (header := frame_header(stream)):
            precision = header.precision
        else:
            return values
        if precision <= stored or not (self._syntax in _LOSSLESS or _has_embedded_overlay(self._ds, stored)):
            return values
        return _sign_extended(values, stored)

    def _native(self, index: int) -> NDArray[Any]:
        options = dict(self._options)
        if self._shift:  # else the highest bits would be cleared
            options["bits_stored"] += self._shift
        partial = options["photometric_interpretation"] == "YBR_PARTIAL_422"
        if partial:  # subsampled just so, with another range
            options["photometric_interpretation"] = "YBR_FULL_422"
        value = self._frame_bytes(index)
        if value is None:
            raise ValueError("the pixel data end before it")
        if self._syntax == ExplicitVRBigEndian:
            options["pixel_vr"] = "OB" if options["bits_allocated"] == 8 else self._pixels.vr or "OW"
        options["allow_excess_frames"] = False
        values, _ = get_decoder(self._syntax).as_array(value, index=0, raw=partial, **options)
        return _rgb_of_partial_range(values) if partial else values

    def _frame_bytes(self, index: int) -> bytes | None:
        """The bytes of one native frame, beginning with its first pixel; ``None`` if they begin behind the end."""
        if self._count == 1 and not self._swapped:
            return self._pixels.read(0, self._pixels.length)
        bits = frame_bits(self._ds)
        start, end = index * bits // 8, -(-(index + 1) * bits // 8)
        if start >= self._pixels.length:
            return None
        if self._swapped:
            even = start & ~1
            pairs = self._pixels.read(even, -(-(end - even) // 2) * 2)
            pairs = np.frombuffer(pairs + b"\0" * (len(pairs) % 2), np.uint16).byteswap().tobytes()
            return pairs[start - even : end - even]
        value = self._pixels.read(start, end - start)
        if lost := index * bits % 8:  # frames of one bit a pixel follow each other within a byte
            whole = np.unpackbits(np.frombuffer(value, np.uint8), bitorder="little")[lost : lost + bits]
            return np.packbits(whole, bitorder="little").tobytes()
        return value

    @property
    def _swapped(self) -> bool:
        """Whether bytes are written as words of the other order (PS3.5 annex A.3)."""
        return self._syntax == ExplicitVRBigEndian and self._options["bits_allocated"] == 8 and self._pixels.vr == "OW"


def _extended_offsets(ds: Dataset) -> list[int]:
    """The entries of the Extended Offset Table (PS3.3 C.7.6.3), of 64 bits each."""
    element = ds.get_item("ExtendedOffsetTable")
    table = element.value if element is not None else None
    if not isinstance(table, bytes):
        return []
    return [int.from_bytes(table[at : at + 8], "little") for at in range(0, len(table) - 7, 8)]


def _sign_extended(values: NDArray[Any], stored: int) -> NDArray[Any]:
    """The lowest so many bits of values, the highest of them the sign if the values have one."""
    shift = 8 * values.dtype.itemsize - stored
    return (values << shift) >> shift


def _has_embedded_overlay(ds: Dataset, stored: int) -> bool:
    """Whether an overlay is said to lie in bits above the stored ones (PS3.3 C.9.2, retired)."""
    positions = (ds[group, 0x0102].value for group in range(0x6000, 0x6020, 2) if (group, 0x0102) in ds)
    return any(isinstance(position, int) and position >= stored for position in positions)


def _rgb_of_partial_range(values: NDArray[Any]) -> NDArray[np.uint8]:
    """RGB of YBR whose luminance lies in 16…235 and its colours in 16…240 (YBR_PARTIAL_422, PS3.3 C.7.6.3.1.2)."""
    luminance, blue, red = (values[..., number].astype(np.float32) for number in range(3))
    luminance, blue, red = 1.1644 * (luminance - 16), blue - 128, red - 128
    rgb = np.stack([luminance + 1.5960 * red, luminance - 0.3917 * blue - 0.8129 * red, luminance + 2.0173 * blue], -1)
    return np.asarray(np.rint(rgb).clip(0, 255), dtype=np.uint8)
