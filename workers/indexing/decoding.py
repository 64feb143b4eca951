"""One file into rows, with a deadline; in this process, or in a process apart that may die of it."""

from __future__ import annotations

import faulthandler
import multiprocessing
import time
from collections.abc import Sequence
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from types import TracebackType
from typing import Any, Self

from model.errors import ImageError, Reason
from model.images.frames import BrokenFrame
from model.images.reading import READ_ALL, ReadOptions, broken_file, read_each_frame
from model.images.sources import describe_error, file_system, is_local
from model.network.preparation import PAPER, AnyPreparation
from workers.indexing.rows import broken_row, frame_row, left_out_row

MAX_FRAMES = 20_000
"""Frames above which a file is left out: 1 GB of network input."""

SPAWN_SECONDS = 60.0
"""Time that a process apart may take to start, on a busy machine, on top of a file's time."""

Rows = list[dict[str, Any]]


class _Deadline:
    """Ends this process if it is not set anew in time.

    A decoder that hangs in C, perhaps holding the interpreter's lock, can only be ended with its process. Setting the
    timer starts a thread, so it is set at most once a second, and runs out up to a second early.
    """

    def __init__(self) -> None:
        self._set_at = 0.0

    def set(self, seconds: float) -> None:
        """Let this process end after so long."""
        now = time.monotonic()
        if now - self._set_at > 1.0:
            faulthandler.dump_traceback_later(seconds, exit=True)
            self._set_at = now

    def cancel(self) -> None:
        """Let this process live."""
        faulthandler.cancel_dump_traceback_later()
        self._set_at = 0.0


deadline = _Deadline()


def decode_file(
    number: int, address: str, seconds: float, options: ReadOptions = READ_ALL, prepare: AnyPreparation = PAPER
) -> Rows:
    """All rows of one file, one a frame, or the one row that says why it was left out.

    A frame that is broken is left out by its own row; a file of which all are is left out as a whole.

    This process is ended after ``seconds``, unless the caller cancels the deadline before.

    Args:
        number: of the file within its window.
        address: of the file; see :mod:`model.images.sources`.
        seconds: time that reading the file may take.
        options: how the file is read.
        prepare: makes the network's input of a frame.
    """
    rows: Rows = []
    first, whole = None, False
    try:
        if not is_local(address):
            deadline.cancel()
            file_system(address)  # reading the table of contents of an archive file is not this file's time
        deadline.set(seconds)
        for frame in read_each_frame(address, options=options):
            if frame.of > MAX_FRAMES:
                raise ImageError(address, Reason.TOO_LARGE, f"{frame.of:,} frames, limit {MAX_FRAMES:,}")
            if isinstance(frame, BrokenFrame):
                first = first or frame
                rows.append(broken_row(number, frame))
            else:
                whole = True
                rows.append(frame_row(number, frame, prepare(frame)))
        if first and not whole:
            raise broken_file(address, first)
    except ImageError as error:
        return [left_out_row(number, error.reason, error.detail)]
    except (MemoryError, OSError) as error:
        return [left_out_row(number, Reason.UNREADABLE, describe_error(error, address))]
    except Exception as error:  # a fault of the reader costs the file that shows it, not the job
        return [left_out_row(number, Reason.CRASHED, f"the reader failed: {type(error).__name__}")]
    return rows


class DecoderProcess:
    """A process apart that decodes file after file; its death or its hanging leaves one file out and nothing else.

    It is started with the first file, and again after one that ended it.
    """

    def __init__(self) -> None:
        self._process: BaseProcess | None = None
        self._pipe: Connection

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()

    def decode(
        self,
        number: int,
        address: str,
        seconds: float,
        options: ReadOptions = READ_ALL,
        prepare: AnyPreparation = PAPER,
    ) -> Rows:
        """As :func:`decode_file`."""
        if self._process is None:
            self._start()
        try:
            self._pipe.send((number, address, seconds, options, prepare))
            if self._pipe.poll(seconds + SPAWN_SECONDS):
                rows: Rows = self._pipe.recv()
                return rows
            why = f"its decoder had not ended after {seconds:g} s"
        except (EOFError, OSError):  # it died before it answered, or while it did
            assert self._process is not None
            self._process.join()
            why = (
                f"its decoder ended the process (exit code {self._process.exitcode}), or ran longer than {seconds:g} s"
            )
        self._end()
        return [left_out_row(number, Reason.CRASHED, why)]

    def _start(self) -> None:
        # Spawned, not forked: the Ray worker's threads hold locks that a forked child would wait for.
        context = multiprocessing.get_context("spawn")
        self._pipe, other_end = context.Pipe()
        self._process = context.Process(target=_serve, args=(other_end,), daemon=True)
        self._process.start()
        other_end.close()

    def _end(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.join()
            self._pipe.close()
            self._process = None


def _serve(pipe: Connection) -> None:
    while True:
        try:
            task: Sequence[Any] = pipe.recv()
        except EOFError:  # the other side is gone
            return
        rows = decode_file(*task)
        deadline.cancel()
        pipe.send(rows)
