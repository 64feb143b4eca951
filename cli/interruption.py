"""Ctrl-C, and SIGTERM as a cluster ends a job: what they ask for, and the exit code that says so."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

EXIT_INTERRUPTED = 128 + signal.SIGINT
EXIT_TERMINATED = 128 + signal.SIGTERM


class _Received:
    terminated = False


_received = _Received()


def exit_code() -> int:
    """The exit code of an interrupted program: 143 after SIGTERM, else 130."""
    return EXIT_TERMINATED if _received.terminated else EXIT_INTERRUPTED


@contextmanager
def on_interruption(react: Callable[[], None]) -> Iterator[None]:
    """Call ``react`` at Ctrl-C and at SIGTERM, which then end nothing by themselves."""

    def handle(number: int, _frame: Any) -> None:
        _received.terminated |= number == signal.SIGTERM
        react()

    _received.terminated = False
    previous = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
