"""Processes that decode for this one: Ctrl-C, which a terminal sends to all of them, is this one's matter alone.

A forked child has its parent's signal handlers, and its parent's locks as they were: a handler that prints may wait for
a lock that nobody holds any more.
"""

from __future__ import annotations

import signal
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


def leave_interruptions_to_parent(_number: int = 0) -> None:
    """Leave Ctrl-C to the parent, and end at once when the parent says so."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _INTERRUPTIONS)
