"""Embedding what several ask for at the same time together: the network is quicker by batch than one by one."""

from __future__ import annotations

import queue
import threading
from collections.abc import Sequence
from concurrent.futures import Future
from typing import Final

from index.query import Query, queries_from_frames
from model.errors import ImageError, Reason
from model.images.frames import Frame
from model.network.embedder import Embedder

LARGEST: Final = 16
"""Pictures that are embedded together."""

_Asked = tuple[str, Frame, tuple[str, ...], "Future[Query]"]


class BatchingEmbedder:
    """One thread that embeds for all others; it takes what has come meanwhile, and waits for nothing.

    Args:
        embedder: used by that thread alone.
    """

    def __init__(self, embedder: Embedder) -> None:
        self._embedder = embedder
        self._asked: queue.SimpleQueue[_Asked | None] = queue.SimpleQueue()
        self._closed = False
        self._thread = threading.Thread(target=self._work, name="cbmir-embedding", daemon=True)
        self._thread.start()

    def query(self, name: str, frame: Frame, layers: Sequence[str]) -> Query:
        """As :func:`index.query.queries_from_frames`, of one frame.

        Raises:
            ImageError: its features are not finite.
        """
        future: Future[Query] = Future()
        if self._closed:
            raise ImageError(name, Reason.CRASHED, "the server is ending")
        self._asked.put((name, frame, tuple(layers), future))
        return future.result()

    def close(self) -> None:
        """Embed what was asked for, then nothing more."""
        self._closed = True
        self._asked.put(None)
        self._thread.join()
        while not self._asked.empty():  # who came in just then
            if late := self._asked.get():
                late[-1].set_exception(ImageError(late[0], Reason.CRASHED, "the server is ending"))

    def _work(self) -> None:
        ended = False
        while not ended:
            batch, one = [], self._asked.get()
            while one is not None:
                batch.append(one)
                if len(batch) == LARGEST or self._asked.empty():
                    break
                one = self._asked.get()
            ended = one is None
            for layers in dict.fromkeys(one[2] for one in batch):
                self._embed([one for one in batch if one[2] == layers], layers)

    def _embed(self, batch: Sequence[_Asked], layers: tuple[str, ...]) -> None:
        try:
            queries = queries_from_frames([(name, frame) for name, frame, _, _ in batch], self._embedder, layers=layers)
        except Exception as error:
            if isinstance(error, ImageError) and len(batch) > 1:  # one picture's fault is not the others'
                for one in batch:
                    self._embed([one], layers)
                return
            for *_, future in batch:
                future.set_exception(error)
            return
        for (*_, future), query in zip(batch, queries, strict=True):
            future.set_result(query)
