"""Memory of a training on processors, whose activations are large and live for milliseconds."""

from __future__ import annotations

import ctypes
from typing import Final

_M_TRIM_THRESHOLD: Final = -1
_M_MMAP_THRESHOLD: Final = -3

LARGEST_BLOCK: Final = 2**30
"""Bytes up to which a block is kept for the next one."""


def keep_freed_memory() -> None:
    """Have glibc keep what is freed, in all of this process, and not give it back and ask for it anew each time.

    The system clears every page that it gives: of the tuning of EfficientNet-Lite0 that was a quarter of the time (26
    images/s on 2 cores for 19). Another C library is left as it is.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt:
        mallopt(_M_MMAP_THRESHOLD, LARGEST_BLOCK)
        mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)
