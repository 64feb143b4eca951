"""Near-duplicates: pictures that a perceptual hash cannot tell apart."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import imagehash
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from model.child_processes import ending_children, leave_interruptions_to_parent, starting_children
from model.errors import ImageError
from model.images.reading import read_frames

HASH_SIDE: Final = 16
"""The hash has 16 × 16 bits: the signs of the lowest frequencies of a picture of 64 × 64."""

NEAR: Final = 20
"""Bits in which near-duplicates differ at most."""

_CHUNK = 32


@dataclass(frozen=True, slots=True)
class Pair:
    """Two near-duplicates, by their places in the list, and the bits in which they differ."""

    first: int
    second: int
    bits: int


def perceptual_hash(path: Path) -> NDArray[np.uint8] | None:
    """``(32,)`` bytes of a file's first picture (imagehash's pHash); ``None`` of one that cannot be read."""
    try:
        frame = next(read_frames(path, 1))
    except ImageError:
        return None
    return np.packbits(imagehash.phash(Image.fromarray(frame.pixels), hash_size=HASH_SIDE).hash)


def find_pairs(
    paths: Sequence[Path], *, near: int = NEAR, workers: int = 1, progress: Callable[[int, int], None] | None = None
) -> list[Pair]:
    """All pairs of near-duplicates among pictures.

    Args:
        paths: of the files; those that cannot be read are in no pair.
        near: bits in which two may differ.
        workers: processes that read.
        progress: told of files done and of their number.
    """
    hashes: list[NDArray[np.uint8] | None] = []
    with ProcessPoolExecutor(workers, initializer=leave_interruptions_to_parent) as pool:
        with starting_children():
            found = pool.map(perceptual_hash, paths, chunksize=_CHUNK)
        try:
            for one in found:
                hashes.append(one)
                if progress:
                    progress(len(hashes), len(paths))
        except BaseException:  # interrupted: what has not begun is not waited for
            with ending_children():
                pool.shutdown(cancel_futures=True)
            raise
    known = np.array([number for number, one in enumerate(hashes) if one is not None])
    table = np.array([one for one in hashes if one is not None], np.uint8).view(np.uint64)
    pairs = []
    for place, number in enumerate(known.tolist()):
        bits = np.bitwise_count(table[place + 1 :] ^ table[place]).sum(axis=1)
        pairs += [
            Pair(number, int(known[place + 1 + other]), int(bits[other])) for other in np.flatnonzero(bits <= near)
        ]
    return pairs
