"""A pseudo-terminal in which a program runs as a person would run it, and the screen that the person would see."""

from __future__ import annotations

import os
import pty
import re
import select
import signal
import struct
import subprocess
import termios
import time
from collections.abc import Mapping, Sequence
from fcntl import ioctl
from pathlib import Path
from typing import Self

import pyte


def _take_the_terminal() -> None:
    """Let Ctrl-C reach the program, also where the tests themselves run in the background, to which shells deny it."""
    ioctl(0, termios.TIOCSCTTY, 0)
    signal.signal(signal.SIGINT, signal.SIG_DFL)


FAULTS = re.compile(rb"Traceback|Exception ignored|fault of this program|Exception in thread")
"""What no person should ever see."""


class Terminal:
    """Runs a command on a terminal of its own, from which it also takes keys and Ctrl-C.

    Args:
        command: program and arguments.
        columns: width; ``lines`` its height, which the program is not told if it is 0.
        environment: added to that of the tests, and to OpenVINO as the runtime, which starts in a third of the time.
        folder: working directory.
    """

    def __init__(
        self,
        command: Sequence[object],
        *,
        columns: int = 80,
        lines: int = 50,
        environment: Mapping[str, str] | None = None,
        folder: Path | None = None,
    ) -> None:
        self.written, self.columns = b"", columns
        self._screen = pyte.HistoryScreen(columns, lines or 50, history=10_000, ratio=1)
        self._stream = pyte.ByteStream(self._screen)
        self._master, slave = pty.openpty()
        ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
        inherited = {key: value for key, value in os.environ.items() if key not in {"COLUMNS", "LINES", "NO_COLOR"}}
        self._process = subprocess.Popen(
            [str(part) for part in command],
            stdin=slave,
            stdout=slave,
            stderr=slave,
            cwd=folder,
            env={**inherited, "TERM": "xterm-256color", "CBMIR_RUNTIME": "openvino", **(environment or {})},
            start_new_session=True,
            preexec_fn=_take_the_terminal,  # noqa: PLW1509 (one thread)
        )
        os.close(slave)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
        os.close(self._master)

    @property
    def pid(self) -> int:
        """Of the program."""
        return self._process.pid

    def type(self, keys: str) -> None:
        """Press keys; ``\\x03`` is Ctrl-C."""
        os.write(self._master, keys.encode())

    def signal(self, number: int) -> None:
        """Send the program a signal."""
        os.kill(self.pid, number)

    def wait_for(self, text: str, seconds: float = 90) -> None:
        """Wait until a text has been on the screen."""
        self._read(lambda: text in self.text, seconds)
        assert text in self.text, f"{text!r} did not come:\n{self.text}"

    def finish(self, seconds: float = 180) -> int:
        """Wait for the program's end; return its exit code, as a shell gives it."""
        self._read(lambda: False, seconds)
        code = self._process.wait(10)
        return 128 - code if code < 0 else code

    @property
    def lines(self) -> list[str]:
        """Everything that can be read when scrolling up, to its end, without empty lines."""
        width = self._screen.columns
        above = ["".join(line[column].data for column in range(width)) for line in self._screen.history.top]
        return [line.rstrip() for line in (*above, *self._screen.display) if line.strip()]

    @property
    def text(self) -> str:
        """The same as one text."""
        return "\n".join(self.lines)

    @property
    def flat(self) -> str:
        """The same without line ends and runs of blanks; what the terminal itself has wrapped is put together."""
        joined = "".join(line if len(line) == self.columns else f"{line} " for line in self.lines)
        return " ".join(joined.split())

    def _read(self, done: object, seconds: float) -> None:
        assert callable(done)
        deadline = time.monotonic() + seconds
        while not done():
            left = deadline - time.monotonic()
            assert left > 0, f"after {seconds:.0f} s:\n{self.text}"
            if not select.select([self._master], [], [], min(left, 1.0))[0]:
                continue
            try:
                data = os.read(self._master, 1 << 16)
            except OSError:  # the last process that held the terminal has ended
                return
            if not data:
                return
            self.written += data
            self._stream.feed(data)


def assert_clean(terminal: Terminal) -> None:
    """See that nothing was shown that belongs to programmers."""
    found = FAULTS.search(terminal.written)
    assert not found, terminal.text


def run(command: Sequence[object], **settings: object) -> tuple[int, Terminal]:
    """Run a command to its end; return its exit code, and the terminal to look at."""
    with Terminal(command, **settings) as terminal:  # type: ignore[arg-type] # its own settings
        code = terminal.finish()
    assert_clean(terminal)
    return code, terminal
