"""What a compressed picture is, by its first bytes, and the decoding of those that Pillow does not know."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

if TYPE_CHECKING:
    from numpy.typing import NDArray

JPEG_XL: Final = (b"\xff\x0a", b"\x00\x00\x00\x0cJXL \x0d\x0a\x87\x0a")
"""A bare code stream, and one in a container (ISO 18181-2)."""

JPEG_LS_FRAME, LOSSLESS_FRAME = 0xF7, 0xC3

_FRAMES: Final = frozenset({0xC0, 0xC1, 0xC2, LOSSLESS_FRAME, JPEG_LS_FRAME})


class FrameHeader(NamedTuple):
    """Of a JPEG stream (ISO 10918-1 B.2.2): the second byte of its marker, and what it says."""

    marker: int
    precision: int
    rows: int
    columns: int


def frame_header(stream: bytes) -> FrameHeader | None:
    """The frame header of a JPEG or JPEG-LS stream, or ``None`` if it has none."""
    place = 2
    while stream[:2] == b"\xff\xd8" and place + 9 <= len(stream) and stream[place] == 0xFF:
        marker = stream[place + 1]
        if marker in _FRAMES:
            rows, columns = (int.from_bytes(stream[at : at + 2], "big") for at in (place + 5, place + 7))
            return FrameHeader(marker, stream[place + 4], rows, columns)
        place += 2 + int.from_bytes(stream[place + 2 : place + 4], "big")
    return None


def near(stream: bytes) -> int:
    """By how much samples of a JPEG-LS stream may differ from what was compressed (NEAR, ISO 14495-1 C.2.3)."""
    place = 2
    while place + 4 <= len(stream) and stream[place] == 0xFF:
        length = int.from_bytes(stream[place + 2 : place + 4], "big")
        if stream[place + 1] == 0xDA:  # start of scan: so many components of two bytes each, then NEAR
            at = place + 5 + 2 * stream[place + 4]
            return stream[at] if at < len(stream) else 0
        place += 2 + length
    return 0


END_MARKER: Final = b"\xff\xd9"
"""EOI of JPEG and JPEG-LS, EOC of JPEG 2000."""


def has_end(stream: bytes) -> bool:
    """Whether a stream of JPEG or JPEG 2000 has its end marker, apart from what may follow it."""
    return END_MARKER in stream.rstrip(b"\0")[-1024:]


def needs_imagecodecs(stream: bytes) -> bool:
    """Whether a picture is JPEG XL, JPEG-LS, lossless JPEG, or JPEG of more than 8 bits."""
    if stream.startswith(JPEG_XL):
        return True
    header = frame_header(stream)
    return header is not None and (header.marker in {JPEG_LS_FRAME, LOSSLESS_FRAME} or header.precision > 8)


def decode(stream: bytes) -> NDArray[Any]:
    """Decode a picture that needs imagecodecs: ``(rows, columns)`` or ``(rows, columns, channels)``.

    Raises:
        ValueError: it has several pictures, or no frame header.
        RuntimeError: imagecodecs cannot decode it.
    """
    import imagecodecs

    if stream.startswith(JPEG_XL):
        values: NDArray[Any] = imagecodecs.jpegxl_decode(stream)
    else:
        header = frame_header(stream)
        if header is None:
            raise ValueError("it has no frame header")
        if not has_end(stream):  # the decoder would fill up what is missing, and not say so
            raise ValueError("it ends before its end marker")
        by = imagecodecs.jpegls_decode if header.marker == JPEG_LS_FRAME else imagecodecs.jpeg8_decode
        values = by(stream)
    if values.ndim not in {2, 3} or (values.ndim == 3 and values.shape[-1] not in {1, 2, 3, 4}):
        raise ValueError(f"it is {values.shape}: an animation, or of too many channels")
    return values
