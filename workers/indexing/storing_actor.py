"""A process on a node that sends the features of the frames embedded there to a server's index."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

import numpy as np

from index.address import Address
from index.engines.engine import Index
from index.opening import open_index
from index.schema import PointBatch, Vector
from workers.indexing.stages import exit_at_once

KEPT_BYTES = 2**28
"""Features that are kept before those who embed must wait: 33,000 of 4,096 values."""

ROOM_SECONDS = 30.0
"""For which they wait at most. What makes room is on its way to the job's process, perhaps behind them in Ray Data."""

REMEMBERED = 1000
"""Numbers that are known to be stored: those for which a call that was interrupted may come again."""

MOST_EMBEDDERS = 64
"""Embedding actors of one node that may wait at once."""


class StoringActor:
    """Keeps features until it is told which are stored, under which ids; runs as a Ray actor of several threads.

    Args:
        address: of the index, a server's.
    """

    def __init__(self, address: Address) -> None:
        exit_at_once()
        self._address = address
        self._opening = threading.Lock()
        self._index: Index | None = None
        self._room = threading.Condition()
        self._kept: dict[int, Mapping[str, Vector]] = {}
        self._stored: deque[int] = deque(maxlen=REMEMBERED)
        self._bytes = 0

    def keep(self, number: int, features: Mapping[str, Vector]) -> None:
        """Keep features, ``(n, dimension)`` by layer, under a number."""
        with self._room:
            self._room.wait_for(lambda: self._bytes < KEPT_BYTES, ROOM_SECONDS)
            # Copies, as the arrays lie in Ray's object store, which decoded frames need.
            self._kept[number] = {layer: np.array(values) for layer, values in features.items()}
            self._bytes += _bytes(features)

    def let_go(self, number: int) -> None:
        """Forget features of which nothing is stored."""
        with self._room:
            features = self._kept.pop(number, None)
            if features is not None:
                self._bytes -= _bytes(features)
                self._room.notify_all()

    def store(
        self, number: int, rows: Sequence[int], ids: Sequence[UUID], payloads: Sequence[Mapping[str, Any]]
    ) -> None:
        """Store some rows of the features kept under a number, and forget them all; told the same again, do nothing.

        Raises:
            LookupError: they were lost with the process that kept them.
            VectorIndexError: the server refuses, or has been away for too long.
        """
        with self._room:
            if number in self._stored:
                return
            features = self._kept[number]
        try:
            vectors = {layer: values[list(rows)] for layer, values in features.items()}
            self._open().upsert_batch(PointBatch(ids, payloads, vectors))
            self._stored.append(number)
        finally:
            self.let_go(number)

    def _open(self) -> Index:
        with self._opening:
            if self._index is None:
                self._index = open_index(self._address, purpose="cbmir index", patient=True)
            return self._index


def _bytes(features: Mapping[str, Vector]) -> int:
    return sum(values.nbytes for values in features.values())
