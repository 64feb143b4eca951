"""Encapsulated pixel data (PS3.5 annex A.4): its fragments, and which of them make a frame.

Offset tables are not looked at: they are wrong in many files, relative to something else, or of one entry. A frame
begins where a code stream begins.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Final

ITEM: Final = b"\xfe\xff\x00\xe0"
"""Tag of an item, little endian as all encapsulated pixel data are."""

_BEGINNINGS: Final = (b"\xff\xd8\xff", b"\xff\x4f\xff\x51", b"\x00\x00\x00\x0cjP  ", b"\xff\x0a")
"""First bytes of JPEG and JPEG-LS, of JPEG 2000 code streams and files, and of JPEG XL."""


def fragments_of(pixel_data: bytes) -> Iterator[bytes]:
    """The fragments behind the offset table, as far as they are whole."""
    place, first = 0, True
    while pixel_data[place : place + 4] == ITEM:
        length = int.from_bytes(pixel_data[place + 4 : place + 8], "little")
        fragment = pixel_data[place + 8 : place + 8 + length]
        if not first:
            yield fragment
        if len(fragment) < length:
            return
        first, place = False, place + 8 + length


def frames_of(pixel_data: bytes, count: int) -> list[bytes]:
    """The code streams of ``count`` frames; fewer if there are fewer, and none of what lies behind them."""
    fragments = [fragment for fragment in fragments_of(pixel_data) if fragment.strip(b"\0")]
    if count == 1:
        return [b"".join(_first_stream(fragments))] if fragments else []
    if len(fragments) > count:
        starts = [number for number, one in enumerate(fragments) if one.startswith(_BEGINNINGS)]
        if len(starts) >= count:
            return [b"".join(fragments[a:b]) for a, b in pairwise([*starts, len(fragments)])][:count]
    return fragments[:count]


def _first_stream(fragments: Sequence[bytes]) -> Sequence[bytes]:
    """The fragments of the first frame: those before another code stream begins."""
    for number, fragment in enumerate(fragments[1:], 1):
        if fragment.startswith(_BEGINNINGS):
            return fragments[:number]
    return fragments
