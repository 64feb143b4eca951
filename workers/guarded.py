"""A process apart for work that may hang or end its process: decoders are written in C, and files are what they are."""

from __future__ import annotations

import faulthandler
import multiprocessing
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from types import TracebackType
from typing import Any, ParamSpec, Self, TypeVar

from model.errors import CbmirError

SPAWN_SECONDS = 60.0
"""Time that a process apart may take to start, on a busy machine, on top of its task's time."""

Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")


class ProcessLostError(CbmirError):
    """The process apart ended before it had answered, or was ended after its time."""


class Deadline:
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


deadline = Deadline()
"""Of this process."""


class GuardedProcess:
    """A process apart that does task after task; its death or its hanging costs one task and nothing else.

    It is started with the first task, and again after one that ended it. Close it, or use it as a context manager.
    """

    def __init__(self) -> None:
        self._process: BaseProcess | None = None
        self._pipe: Connection

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def start(self) -> None:
        """Start the process, if it does not run: the first task then need not wait for it."""
        if self._process is not None:
            return
        # Spawned, not forked: this process's threads hold locks that a forked child would wait for.
        context = multiprocessing.get_context("spawn")
        self._pipe, other_end = context.Pipe()
        self._process = context.Process(target=_serve, args=(other_end,), daemon=True)
        self._process.start()
        other_end.close()

    def run(
        self,
        seconds: float,
        task: Callable[Parameters, Result],
        *arguments: Parameters.args,
        **named: Parameters.kwargs,
    ) -> Result:
        """Do a task, a function of a module, whose arguments and result go through a pipe; it raises nothing.

        Raises:
            ProcessLostError: it took longer than ``seconds``, or ended its process.
        """
        self.start()
        try:
            self._pipe.send((seconds, task, arguments, named))
            if self._pipe.poll(seconds + SPAWN_SECONDS):
                result: Result = self._pipe.recv()
                return result
            why = f"its decoder had not ended after {seconds:g} s"
        except (EOFError, OSError):  # it died before it answered, or while it did
            assert self._process is not None
            self._process.join()
            code = self._process.exitcode
            why = f"its decoder ended the process (exit code {code}), or ran longer than {seconds:g} s"
        self.close()
        raise ProcessLostError(why)

    def close(self) -> None:
        """End the process."""
        if self._process is not None:
            self._process.kill()
            self._process.join()
            self._pipe.close()
            self._process = None


def _serve(pipe: Connection) -> None:
    while True:
        try:
            seconds, task, arguments, named = pipe.recv()
        except EOFError:  # the other side is gone
            return
        deadline.set(seconds)
        result: Any = task(*arguments, **named)
        deadline.cancel()
        pipe.send(result)
