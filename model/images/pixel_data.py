"""The pixel data element of a DICOM object, in memory or still in its file (PS3.5 sections 7.1 and 8, annex A.4)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import IO, Final, Literal

from pydicom.dataset import Dataset

from model.images.fragments import ITEM

KEYWORDS: Final = ("PixelData", "FloatPixelData", "DoubleFloatPixelData")

_ELEMENTS: Final = {0x0010: "PixelData", 0x0008: "FloatPixelData", 0x0009: "DoubleFloatPixelData"}

_VRS: Final = frozenset({b"OB", b"OW", b"OF", b"OD", b"OL", b"OV", b"UN"})

_UNDEFINED_LENGTH: Final = 2**32 - 1


@dataclass(frozen=True, slots=True)
class PixelData:
    """The value of a pixel data element, of which any part can be read.

    Attributes:
        keyword: one of :data:`KEYWORDS`.
        vr: its value representation, or ``None`` in implicit VR.
        content: bytes that hold the value, or the path of a file that does.
        start: of the value within them, in bytes.
        length: of the value, in bytes; up to the end of the file if the element does not say.
        compressed: the value is a sequence of fragments. The element's own form says so, whatever the transfer syntax.
    """

    keyword: str
    vr: str | None
    content: bytes | Path
    start: int
    length: int
    compressed: bool

    @contextmanager
    def open(self) -> Iterator[IO[bytes]]:
        """The bytes, or the file, that hold the value from :attr:`start` on."""
        with BytesIO(self.content) if isinstance(self.content, bytes) else self.content.open("rb") as file:
            yield file

    def read(self, offset: int, length: int) -> bytes:
        """A part of the value; shorter where the value, or its file, ends before."""
        length = max(0, min(length, self.length - offset))
        if isinstance(self.content, bytes):
            return self.content[self.start + offset : self.start + offset + length]
        with self.open() as file:
            file.seek(self.start + offset)
            return file.read(length)


def pixels_in_memory(ds: Dataset) -> PixelData | None:
    """The pixel data of a dataset that was parsed as a whole, ``None`` if it has none."""
    for keyword in KEYWORDS:
        if (element := ds.get_item(keyword)) is not None:
            value = element.value if isinstance(element.value, bytes) else bytes(element.value or b"")
            endless = bool(getattr(element, "is_undefined_length", False))
            compressed = keyword == "PixelData" and (endless or value[:4] == ITEM)
            return PixelData(keyword, element.VR, value, 0, len(value), compressed)
    return None


def pixels_behind(ds: Dataset, file: IO[bytes], content: bytes | Path) -> PixelData | None:
    """The pixel data of a dataset that was read up to it, ``None`` if it has none.

    Args:
        ds: what was read.
        file: behind the last element that was read.
        content: what the file holds, or its path.
    """
    order: Literal["little", "big"] = "little" if ds.original_encoding[1] is not False else "big"
    header = file.read(8)
    keyword = _ELEMENTS.get(int.from_bytes(header[2:4], order))
    if len(header) < 8 or int.from_bytes(header[:2], order) != 0x7FE0 or keyword is None:
        return None
    # The VR may be implicit though the transfer syntax says otherwise; no even length looks like one of these.
    vr = header[4:6].decode() if header[4:6] in _VRS else None
    length = int.from_bytes(header[4:] if vr is None else file.read(4), order)
    start = file.tell()
    compressed = keyword == "PixelData" and (length == _UNDEFINED_LENGTH or file.read(4) == ITEM)
    there = file.seek(0, 2) - start
    return PixelData(keyword, vr, content, start, there if compressed else min(length, there), compressed)
