"""Memory of a process and all that it started, by Pss: every page counted once, however many share it."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

SECONDS = 4.0
"""Time between samples: one reads the page tables of every process, which costs them time."""


@dataclass(frozen=True, slots=True)
class Sample:
    """Bytes at one moment: anonymous and shared-memory pages, and pages of files, which the system can take back.

    ``of_root`` are the anonymous and shared ones of the first process, which holds the index.
    """

    at: float
    anonymous_and_shared: int
    of_root: int
    files: int


def sample(process: int) -> Sample:
    """Sum over a process and its descendants."""
    anonymous = of_root = files = 0
    with suppress(psutil.NoSuchProcess):
        root = psutil.Process(process)
        for one in [root, *root.children(recursive=True)]:
            for name, size in _rollup(one.pid):
                kept = size if name in {"Pss_Anon", "Pss_Shmem"} else 0
                anonymous += kept
                of_root += kept if one == root else 0
                files += size if name == "Pss_File" else 0
    return Sample(time.time(), anonymous, of_root, files)


def _rollup(process: int) -> Iterator[tuple[str, int]]:
    with suppress(OSError):  # the process has ended meanwhile
        for line in Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()[1:]:
            name, value, *_ = line.replace(":", "").split()
            yield name, int(value) * 1024


class Sampler(threading.Thread):
    """Samples every few seconds until stopped."""

    def __init__(self, process: int) -> None:
        super().__init__(daemon=True)
        self.samples: list[Sample] = []
        self._process, self._stopped = process, threading.Event()

    def run(self) -> None:
        """Sample until stopped."""
        while not self._stopped.wait(SECONDS):
            self.samples.append(sample(self._process))

    def stop(self) -> list[Sample]:
        """End, and return all samples."""
        self._stopped.set()
        self.join()
        return self.samples
