"""Encapsulated pixel data (PS3.5 annex A.4): its fragments, and which of them make a frame.

Offset tables are wrong in many files, relative to something else, or of one entry. So a frame begins where a code
stream begins, and a table is looked at only where that is not enough.
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

_SHORT: Final = frozenset({b"\xff\x0a"})
"""Beginnings that bytes of a code stream may be by chance."""

MAX_TABLE: Final = 2**20
"""Bytes of an offset table that are read: more than any file that is read has frames."""

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


def offset_table(file: IO[bytes], place: int = 0) -> list[int]:
    """The entries of the basic offset table: where each frame's first fragment begins, behind the table."""
    file.seek(place)
    header = file.read(8)
    length = int.from_bytes(header[4:], "little") if header[:4] == ITEM else 0
    table = file.read(min(length, MAX_TABLE))
    return [int.from_bytes(table[at : at + 4], "little") for at in range(0, len(table) - 3, 4)]


def frames_of(fragments: Sequence[Fragment], count: int, offsets: Sequence[int] = ()) -> Sequence[Sequence[Fragment]]:
    """The fragments of each of ``count`` frames; fewer frames if there are fewer, and none of what lies behind them.

    A frame begins where a code stream of the first one's kind begins. Where that does not give ``count``
    frames, as when one is damaged at its beginning, ``offsets`` decide, if they agree with the fragments; otherwise
    each frame gets the same number of fragments.
    """
    if len(fragments) == count:
        return [[one] for one in fragments]
    full = [one for one in fragments if not one.empty]
    kind = next((one for one in _BEGINNINGS if full and full[0].start.startswith(one)), None)
    starts = [number for number, one in enumerate(full) if kind and one.start.startswith(kind)]
    if count == 1:
        behind = next((number for number in starts if number and kind not in _SHORT), len(full))
        return [full[:behind]] if full else []
    if len(full) > count and len(starts) >= count:
        return [full[a:b] for a, b in pairwise([*starts, len(full)])][:count]
    places = {one.place - fragments[0].place: number for number, one in enumerate(fragments)} if full else {}
    if len(offsets) == count and all(offset in places for offset in offsets):
        bounds = [*(places[offset] for offset in offsets), len(fragments)]
        return [fragments[a:b] for a, b in pairwise(bounds)]
    if len(full) > count and len(full) % count == 0:
        size = len(full) // count
        return [full[at : at + size] for at in range(0, len(full), size)]
    return [[one] for one in full[:count]]
