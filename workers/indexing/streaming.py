"""Windows of files, one after another, through the pipeline into the sink, until every file is accounted for."""

from __future__ import annotations

import gc
import re
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from datetime import datetime
from types import TracebackType
from typing import Self

from ray.data.exceptions import ExecutionTimeoutError, SystemException
from ray.exceptions import RayError

from index.address import Address
from index.engines.engine import Index
from index.ledger import Ledger
from model.errors import JobError, Reason, was_interrupted
from model.images.reading import ReadOptions
from workers.indexing.counters import StageCounts
from workers.indexing.manners import NO_LIMITS
from workers.indexing.pipeline import SHARD_FILES, RepositorySource, run_pipeline
from workers.indexing.planning import PendingFile, windows
from workers.indexing.session import Session
from workers.indexing.settings import Machine, PacsSettings
from workers.indexing.sink import LeftOut, Sink, SinkCounts
from workers.indexing.stages import Network
from workers.indexing.stalling import StallWatch
from workers.indexing.storing import StoringBesideEmbedding

PASSES = 2
"""Times that a window's files are sent through the pipeline; the second takes up what was lost with a worker."""

MOST_LOSSES = 10
"""Times that a window is taken up after a worker or node was lost, if each time some more files were stored."""

LOOK_SECONDS = 1.0


class Stream:
    """The embedding part of a job: Ray is started, or joined, by its first files, and left when its context ends.

    Args:
        machine: what the job may use.
        network: the model, as the actors need it.
        index: where points are stored.
        ledger: which files are done.
        options: how files are read.
        pacs: how a PACS is spoken to.
        left_out: told of every file that is left out.
        server: where the index is, if on a server.
        stalled: told, in another thread, for how many seconds no image has come, and which nodes answer.
        worker_lost: told how many files are done again after a loss, and why, in Ray's words.
        loading: called when Ray is there, and its workers load the network.
        moved: called once a second at most, while :attr:`stages` and :attr:`stored` grow.

    Attributes:
        stages: counts of decoding and embedding.
        stored: counts of the sink.
        workers: workers of each stage at once, at most.
        seconds_waiting: time in which the next window was waited for.
        gave_up: why the job was interrupted, when nothing has moved for too long.
    """

    def __init__(
        self,
        machine: Machine,
        network: Network,
        index: Index,
        ledger: Ledger,
        *,
        options: ReadOptions,
        pacs: PacsSettings,
        left_out: LeftOut,
        server: Address | None,
        stalled: Callable[[float, str], None],
        worker_lost: Callable[[int, str], None],
        loading: Callable[[], None],
        moved: Callable[[], None],
    ) -> None:
        self._machine, self._network, self._options, self._pacs = machine, network, options, pacs
        self._index, self._ledger = index, ledger
        self._left_out, self._worker_lost, self._stalled = left_out, worker_lost, stalled
        self._loading, self._moved = loading, moved
        self._server = server
        self._stack = ExitStack()
        self._session: Session | None = None
        self._shard, self._looked_at = 0, 0.0
        self.stages, self.stored = StageCounts(), SinkCounts()
        self.workers: dict[str, int] = {}
        self.seconds_waiting = 0.0
        self.gave_up: str | None = None
        self._node_lost: str | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.__exit__(kind, error, trace)

    def run(self, files: Iterator[PendingFile], *, counts: SinkCounts | None = None) -> None:
        """Embed and store all files; they are counted in :attr:`stored`, or in ``counts``.

        Raises:
            JobError: Ray cannot be started, or failed twice over the same files.
            VectorIndexError: the index cannot be written.
        """
        if self._session is None:
            self._session = self._stack.enter_context(Session(self._machine, self._server, self._pacs.manners))
            resources = self._session.resources
            self.workers = {"decode": resources.decode_tasks, "embed": resources.actors[1]}
        self._loading()
        with _spared_collector():
            for window in self._timed(windows(files)):
                self._send(window, self._session, self.stored if counts is None else counts)

    def _timed(self, found: Iterator[list[PendingFile]]) -> Iterator[list[PendingFile]]:
        while True:
            started = time.perf_counter()
            window = next(found, None)
            self.seconds_waiting += time.perf_counter() - started
            if window is None:
                return
            yield window

    def _send(self, window: list[PendingFile], session: Session, counts: SinkCounts) -> None:
        """Send a window, and again what of it was lost."""
        passes, losses = PASSES, 0
        while window and passes:
            source = RepositorySource(
                window,
                self._shard,
                actors=session.resources.actors[1],
                file_seconds=self._machine.file_seconds,
                options=self._options,
                prepare=self._network.prepare,
                counters=session.counters,
                access=self._pacs.access.to_fetch,
                paced=self._pacs.manners != NO_LIMITS,
                decode_tasks=session.resources.decode_tasks,
            )
            self._shard += len(source.shards)
            storing = StoringBesideEmbedding(session.storing) if session.storing else None
            sink = Sink(self._index, self._ledger, window, self._left_out, counts, storing)
            try:
                self._drain(source, session, sink)
                passes -= 1
            except (RayError, SystemException, ExecutionTimeoutError) as error:
                losses += 1
                passes -= not sink.accounted  # of a pass that came further, another loss may be another matter
                if not passes or losses > MOST_LOSSES:
                    raise JobError(
                        f"Ray gave the job up: {_last_line(error)}: see --debug, then run it again"
                    ) from error
                self._worker_lost(len(window) - len(sink.accounted), _last_line(error))
                session.renew()
            except (KeyboardInterrupt, Exception) as error:
                if not (self._node_lost and was_interrupted(error)):
                    raise
                self._worker_lost(len(window) - len(sink.accounted), self._node_lost)
                session.renew()
            window = [file for number, file in enumerate(window) if number not in sink.accounted]
        for file in window:
            self._left_out(file, Reason.CRASHED.value, "its worker was lost twice; run the same command again", None)

    def _rests(self) -> bool:
        """Whether nothing can come now, as a PACS is left alone at this hour."""
        return self._pacs.manners.closed_for(datetime.now()) > 0  # noqa: DTZ005 (hours are those of this machine)

    def _drain(self, source: RepositorySource, session: Session, sink: Sink) -> None:
        tables = run_pipeline(
            source, self._network, session.resources, session.counters, session.storing, debug=self._machine.debug
        )
        rate, tasks = self._pacs.manners.rate, session.resources.decode_tasks
        slow = 2 * SHARD_FILES * tasks / rate if rate else 0.0  # a task gives its first images when it has many
        watch = StallWatch(self._stalled, self._machine.stall_seconds + slow, self._rests)
        try:
            with closing(tables), watch:  # its threads end before Ray does
                for table in tables:
                    watch.moved()
                    sink.take(table)
                    watch.moved()  # storing may have taken a while, and the graph
                    if time.monotonic() - self._looked_at > LOOK_SECONDS:
                        self.stages, self._looked_at = session.counts(), time.monotonic()
                        self._moved()
            self.stages = session.counts()
        except BaseException:
            with suppress(RayError):  # what could not be stored for a loss is no reason beside the first one
                sink.commit()
            raise
        else:
            sink.commit()
        finally:
            self.gave_up, self._node_lost = watch.gave_up, watch.node_lost


@contextmanager
def _spared_collector() -> Iterator[None]:
    """Keep Python's garbage collector away from what is there already: rows are many objects, and it looks each time.

    It was seen to take a tenth of the driver's processor time.
    """
    thresholds = gc.get_threshold()
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)
    try:
        yield
    finally:
        gc.set_threshold(*thresholds)
        gc.unfreeze()


_FAULT = re.compile(r"\s*(?!ray\.)[\w.]*(?:Error|Exception): ")
"""A line of a traceback that says what went wrong, before Ray's hints on how often it might be tried."""


def _last_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    faults = [line for line in lines if _FAULT.match(line)]
    return (faults or lines or [type(error).__name__])[-1].strip()
