"""Processes that decode for this one: Ctrl-C, which a terminal sends to all of them, is this one's matter alone.

A forked child has its parent's signal handlers, and its parent's locks as they were: a handler that prints may wait for
a lock that nobody holds any more.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

_INTERRUPTIONS = {signal.SIGINT, signal.SIGTERM}


@contextmanager
def starting_children() -> Iterator[None]:
    """While children are started here, an interruption waits.

    They call :func:`leave_interruptions_to_parent` first of all.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _INTERRUPTIONS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def ending_children() -> Iterator[None]:
    """While children are ended here, further interruptions are ignored: they are ending already.

    One in the middle of joining the executor's thread has Python 3.11 take that thread for ended, and the program waits
    for its children for ever. A mask would not do, as another thread may take the signal.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, lambda _number, _frame: None) for number in _INTERRUPTIONS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def leave_interruptions_to_parent(_number: int = 0) -> None:
    """Leave Ctrl-C to the parent, and end at once when the parent says so."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _INTERRUPTIONS)
