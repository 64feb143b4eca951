"""The stand-in in a process of its own, which can be killed and started again over what it has stored."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import Self


class StandInProcess:
    """A stand-in over a folder, until the context ends.

    Attributes:
        port: of gRPC, the same after each start.
    """

    def __init__(self, folder: Path, *, discards: bool = False) -> None:
        self._folder, self._options = folder, ["--discards"] if discards else []
        self.port = 0
        self.start()

    def start(self) -> None:
        """Start it; return when it listens."""
        command = [sys.executable, "-m", "tests.support.stand_in", str(self._folder), "--port", str(self.port)]
        self._process = subprocess.Popen([*command, *self._options], stdout=subprocess.PIPE, text=True)
        assert self._process.stdout
        with self._process.stdout as told:
            self.port = int(told.readline())

    def kill(self) -> None:
        """End it without a chance to write anything."""
        self._process.send_signal(signal.SIGKILL)
        self._process.wait()

    def pause(self) -> None:
        """Let it keep its connections and answer nothing, until :meth:`resume`."""
        self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let it go on."""
        self._process.send_signal(signal.SIGCONT)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.wait()
