"""Noticing that nothing moves any more: Ray waits without a word for workers that a cut link has taken away."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

SAID_SECONDS = 60.0
"""Time without any image after which a person is told, and told again."""

LOOK_SECONDS = 1.0

_INTERRUPTION = signal.SIGUSR1
"""A real signal, as the main thread waits inside of Ray; not that of Ctrl-C, which jobs in the background ignore."""


class StallWatch:
    """Runs beside a pipeline until its context ends.

    Args:
        told: called in a thread of its own, with the seconds for which nothing has come and what Ray's nodes do.
        patience: seconds after which a job in the main thread is interrupted, as by Ctrl-C; :attr:`gave_up` says why.
        rests: whether nothing can come now, as it was asked for.

    Attributes:
        gave_up: why the job was interrupted; ``None`` if it was not.
        node_lost: why the pipeline was interrupted, in the same way, to go on with the nodes that are left: what runs
            on them waits for those that are not, and keeps their processors meanwhile. ``None`` if it was not.
    """

    def __init__(
        self, told: Callable[[float, str], None], patience: float, rests: Callable[[], bool] = lambda: False
    ) -> None:
        self._told, self._patience, self._rests = told, patience, rests
        self._moved = self._said = time.monotonic()
        self._ended = threading.Event()
        self._main = threading.current_thread() is threading.main_thread()  # others cannot be interrupted
        self._thread = threading.Thread(target=self._watch, name="cbmir-stall-watch", daemon=True)
        self.gave_up: str | None = None
        self.node_lost: str | None = None
        self._nodes: set[str] = set()

    def moved(self) -> None:
        """Something has come."""
        self._moved = self._said = time.monotonic()

    def __enter__(self) -> Self:
        self.moved()
        self._nodes = living_nodes()
        if self._main:
            self._handler = signal.signal(_INTERRUPTION, signal.default_int_handler)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join()
        if self._main:
            signal.signal(_INTERRUPTION, self._handler)

    def _watch(self) -> None:
        while not self._ended.wait(min(LOOK_SECONDS, SAID_SECONDS / 4)):
            if self._rests():
                self.moved()
            now = time.monotonic()
            living = living_nodes()
            self._nodes |= living  # a node may join while the job runs, and be lost in its turn
            if self._main and now - self._moved >= self._patience:
                self.gave_up = f"no image has come for {now - self._moved:,.0f} s: {nodes_text()}"
                os.kill(os.getpid(), _INTERRUPTION)
                return
            if now - self._said >= SAID_SECONDS:
                self._said = now
                self._told(now - self._moved, nodes_text())
            if self._main and now - self._moved >= SAID_SECONDS and self._nodes - living:
                self.node_lost = nodes_text()
                os.kill(os.getpid(), _INTERRUPTION)
                return


def living_nodes() -> set[str]:
    """Ids of the nodes of Ray that answer; Ray takes half a minute to notice that one does not."""
    import ray

    if not ray.is_initialized():
        return set()
    return {str(node["NodeID"]) for node in ray.nodes() if node["Alive"]}


def nodes_text() -> str:
    """Which of Ray's nodes answer; they are all that Ray tells of a worker for which it waits."""
    import ray

    if not ray.is_initialized():
        return "Ray is not running"
    nodes: list[dict[str, Any]] = ray.nodes()
    lost = [str(node["NodeManagerAddress"]) for node in nodes if not node["Alive"]]
    text = f"{len(nodes) - len(lost)} of {len(nodes)} Ray nodes answer"
    return f"{text}, lost: {', '.join(lost)}" if lost else text
