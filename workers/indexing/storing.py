"""Points on their way into a server's index: threads of their own send them, while the next ones are made ready.

A job that waits for the answer to each request leaves itself and the server idle by turns. The embedded engine (Qdrant
Edge 0.9) holds Python's lock while it stores, so that there threads would only be in each other's way.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterable, Sequence
from concurrent.futures import Future
from types import TracebackType
from typing import Self
from uuid import UUID

from index.engines.engine import Index
from index.schema import Payload, Point

SERVER_THREADS = 4
"""Requests that a server gets at once; each thread has a connection of its own."""

_Batch = tuple[Sequence[Point], "Future[None]"]


class Storing:
    """Stores batches of points in an index, on a server a few at once, and knows which are not stored yet.

    A point is never on its way twice, so that the last word on it is the last one that is stored. The threads are
    daemons: a program that was interrupted does not wait for a server that is away.

    Args:
        index: open, to be written.
    """

    def __init__(self, index: Index) -> None:
        self._index = index
        self._batches: queue.Queue[_Batch | None] = queue.Queue(maxsize=SERVER_THREADS)
        self._under_way: dict[UUID, Payload] = {}
        self._unfinished: list[_Batch] = []
        self._running: list[threading.Thread] = []
        self._failed: BaseException | None = None

    def upsert(self, points: Sequence[Point]) -> None:
        """Take a batch, or store it at once; wait for room, and for points of it that are on their way already.

        Raises:
            VectorIndexError: an earlier batch could not be stored.
        """
        if not self._index.takes_several:
            self._index.upsert(points)
            return
        if not self._running:
            self._running = [
                threading.Thread(target=self._work, name=f"cbmir-storing-{number}", daemon=True)
                for number in range(SERVER_THREADS)
            ]
            for thread in self._running:
                thread.start()
        if any(point.id in self._under_way for point in points):
            self.wait()
        self._settle()
        batch: _Batch = (points, Future())
        self._batches.put(batch)  # first: what an interruption cuts off here must not be waited for
        self._unfinished.append(batch)
        self._under_way.update((point.id, point.payload) for point in points)

    def under_way(self, ids: Iterable[UUID]) -> dict[UUID, Payload]:
        """The payloads of those points that are taken and perhaps not stored yet."""
        return {one: self._under_way[one] for one in ids if one in self._under_way}

    def everything_under_way(self) -> dict[UUID, Payload]:
        """The payloads of all points that are taken and perhaps not stored yet."""
        return dict(self._under_way)

    def wait(self) -> None:
        """Return when every batch is stored.

        Raises:
            VectorIndexError: one could not be; what was taken before and after it may be stored or not.
        """
        for _, done in self._unfinished:
            done.exception()
        self._settle()

    def _settle(self) -> None:
        """Forget the batches that are stored; of one that could not be, the error is raised from now on, each time."""
        unfinished = []
        for points, done in self._unfinished:
            if not done.done():
                unfinished.append((points, done))
                continue
            for point in points:
                self._under_way.pop(point.id, None)
            self._failed = self._failed or done.exception()
        self._unfinished = unfinished
        if self._failed:
            raise self._failed

    def _work(self) -> None:
        while (batch := self._batches.get()) is not None:
            points, done = batch
            try:
                self._index.upsert(points)
            except BaseException as error:  # raised where it is waited for
                done.set_exception(error)
            else:
                done.set_result(None)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Let the threads end, once each has stored what it is at; do not wait for it if the job was interrupted."""
        for _ in self._running:
            try:
                self._batches.put_nowait(None)
            except queue.Full:
                break
        if error is None:
            for thread in self._running:
                thread.join()
