"""Encapsulated pixel data (PS3.5 annex A.4): its fragments, and which of them make a frame.

Offset tables are not looked at: they are wrong in many files, relative to something else, or of one entry. A frame
begins where a code stream begins.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import IO, Final, NamedTuple

ITEM: Final = b"\xfe\xff\x00\xe0"
"""Tag of an item, little endian as all encapsulated pixel data are."""

_BEGINNINGS: Final = (
    b"\xff\xd8\xff",
    b"\xff\x4f\xff\x51",
    b"\x00\x00\x00\x0cjP  ",
    b"\xff\x0a",
    b"\x00\x00\x00\x0cJXL ",
)
"""First bytes of JPEG and JPEG-LS, of JPEG 2000 code streams and files, and of JPEG XL ones."""

_LOOKED_AT: Final = 64
"""Bytes of a fragment that tell whether a code stream begins there."""


class Fragment(NamedTuple):
    """Where a fragment lies in its file, in bytes, how it begins, and whether it holds nothing but zeros."""

    place: int
    length: int
    start: bytes
    empty: bool


def fragments_of(file: IO[bytes], place: int = 0) -> Iterator[Fragment]:
    """The fragments behind the offset table, of which the last may be cut off.

    Args:
        file: holds the value of a pixel data element.
        place: where the value begins in it.
    """
    first, end = True, file.seek(0, 2)
    while True:
        file.seek(place)
        header = file.read(8)
        if header[:4] != ITEM or len(header) < 8:
            return
        place, length = place + 8, int.from_bytes(header[4:], "little")
        if not first:
            there = min(length, end - place)
            start = file.read(min(there, _LOOKED_AT))
            empty = not start.strip(b"\0") and not file.read(there - len(start)).strip(b"\0")
            yield Fragment(place, there, start, empty)
        first, place = False, place + length


def frames_of(fragments: Sequence[Fragment], count: int) -> Sequence[Sequence[Fragment]]:
    """The fragments of each of ``count`` frames; fewer frames if there are fewer, and none of what lies behind them."""
    full = [one for one in fragments if not one.empty]
    starts = [number for number, one in enumerate(full) if one.start.startswith(_BEGINNINGS)]
    if count == 1:
        behind = next((number for number in starts if number), len(full))
        return [full[:behind]] if full else []
    if len(full) > count and len(starts) >= count:
        return [full[a:b] for a, b in pairwise([*starts, len(full)])][:count]
    return [[one] for one in full[:count]]
