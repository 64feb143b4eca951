"""Lookup tables as files have them: of modality, VOI and palettes (PS3.3 C.11.1, C.11.2, C.7.6.3.1.5).

A table's descriptor says how many entries there are, which value the first one stands for, and how many bits an entry
has. All three are often wrong, or ambiguous: entries of 8 bits lie two in a word or one in each, values below zero are
written without a sign, and tables of 12 bits call themselves 8 or 16. Here is one reading of all of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from model.images.elements import words

LEAST_BITS = 8
"""Fewest bits that a table's entries are taken to have, whatever its descriptor says."""


@dataclass(frozen=True, slots=True)
class LookupTable:
    """A lookup table; a value below the first gets the first entry, a value beyond the last gets the last entry.

    Attributes:
        entries: ``(n,)`` uint16.
        first: the value that the first entry stands for, read without a sign.
        bits: of an entry: those that the greatest one needs.
    """

    entries: NDArray[np.uint16]
    first: int
    bits: int

    def apply(self, values: NDArray[Any]) -> NDArray[np.uint16]:
        """The entries of integer, or rounded, values; of the same shape."""
        place = np.rint(values).astype(np.int64) if values.dtype.kind == "f" else values.astype(np.int64)
        place -= self._first_for(place)
        return np.asarray(self.entries[np.clip(place, 0, len(self.entries) - 1, out=place)])

    def _first_for(self, values: NDArray[np.int64]) -> int:
        """The first value with the sign with which more of the values lie in the table."""
        if self.first < 2**15 or not values.size:
            return self.first
        low, high = int(values.min()), int(values.max())

        def met(first: int) -> int:
            return min(high, first + len(self.entries) - 1) - max(low, first)

        return max(self.first - 2**16, self.first, key=met)


def read_table(ds: Dataset, descriptor: str, data: str) -> LookupTable | None:
    """The table that two elements of a dataset make, or ``None`` if they make none that is whole.

    Args:
        ds: an item of a Modality or VOI LUT Sequence, or the dataset of a palette.
        descriptor: keyword of its descriptor: number of entries (0 is 2¹⁶), first value, bits.
        data: keyword of its entries.
    """
    described, entries = words(ds, descriptor), words(ds, data)
    if len(described) < 3 or not len(entries):
        return None
    count, first, bits = int(described[0]) or 2**16, int(described[1]), int(described[2])
    if len(entries) < count <= 2 * len(entries) and bits <= 8:  # two in a word, the first in its low byte
        entries = entries.astype("<u2").view(np.uint8).astype(np.uint16)
    if len(entries) < count:
        return None
    entries = entries[:count]
    needed = max(int(entries.max()).bit_length(), LEAST_BITS)
    return LookupTable(entries, first, needed)
