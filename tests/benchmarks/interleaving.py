"""The bare loop of the network, run by turns with a job that stands still meanwhile.

A machine's speed drifts by a tenth within minutes, so that a loop before or after the job measures another machine.
"""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

import numpy as np
import psutil

BATCH = 32

START_SECONDS = 30.0
"""Time in which the job starts Ray undisturbed."""

JOB_SECONDS = 20.0
LOOP_SECONDS = 4.0
"""Length of a turn of each; Ray takes nodes that are silent for longer than ten seconds for dead."""

AFTERWARDS_SECONDS = 20.0
"""Length of the one turn after a job that was too short for any."""

_SCRIPT = """
import sys, time, numpy as np, torch
from pathlib import Path
from model.network.embedder import Embedder
from model.network.heads import default_layers
torch.set_num_threads({threads})
embedder, layers = Embedder.load({model!r}), default_layers(Path({model!r}))
images = np.random.default_rng(0).integers(0, 256, ({batch}, *embedder.preparation.shape), dtype=np.uint8)
for _ in range(5):
    embedder.embed(images, layers)
print("ready", flush=True)
for line in sys.stdin:
    started, count = time.perf_counter(), 0
    while time.perf_counter() - started < float(line):
        embedder.embed(images, layers)
        count += len(images)
    print(count / (time.perf_counter() - started), flush=True)
"""


class BareLoop:
    """A process that embeds the same arrays, decoded before, whenever it is asked to; one thread a core."""

    def __init__(self, model: Path, threads: int) -> None:
        script = _SCRIPT.format(threads=threads, model=str(model), batch=BATCH)
        command = [sys.executable, "-c", script]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1)
        self._line()

    def rate(self, seconds: float) -> float:
        """Images a second over so long."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{seconds}\n")
        return float(self._line())

    def close(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.communicate()

    def _line(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline()


class Turns(threading.Thread):
    """Lets a job's processes and the loop run by turns until the job has ended."""

    def __init__(self, process: int, loop: BareLoop) -> None:
        super().__init__(daemon=True)
        self._process, self._loop = psutil.Process(process), loop
        self._stopped = threading.Event()
        self.turns: list[tuple[float, float, float]] = []
        """Start and end (Unix time) of each of the loop's turns, and its images a second."""

    def run(self) -> None:
        """Take turns until stopped."""
        if self._stopped.wait(START_SECONDS):
            return
        while not self._stopped.wait(JOB_SECONDS):
            with suppress(psutil.NoSuchProcess):
                job = [self._process, *self._process.children(recursive=True)]
                self._all(job, psutil.Process.suspend)
                started = time.time()
                rate = self._loop.rate(LOOP_SECONDS)
                ended = time.time()
                self._all(job, psutil.Process.resume)
                self.turns.append((started, ended, rate))

    @property
    def paused(self) -> float:
        """Seconds for which the job stood still."""
        return sum(end - start for start, end, _ in self.turns)

    def stop(self) -> None:
        """End after the turn that runs."""
        self._stopped.set()
        self.join()

    def rates(self, moments: list[tuple[float, int]]) -> tuple[float, float]:
        """Images a second of the job in its steady state, and of the loop in between.

        Args:
            moments: Unix time and number of images embedded until then.
        """
        total = moments[-1][1]
        inner = [(at, count) for at, count in moments if 0.1 * total <= count <= 0.9 * total]
        (first, low), (last, high) = inner[0], inner[-1]
        turns = [turn for turn in self.turns if first <= turn[0] and turn[1] <= last]
        paused = sum(end - start for start, end, _ in turns)
        loops = [rate for *_, rate in turns] or [self._loop.rate(AFTERWARDS_SECONDS)]
        return (high - low) / (last - first - paused), float(np.mean(loops))

    @staticmethod
    def _all(processes: list[psutil.Process], do: object) -> None:
        for process in processes:
            with suppress(psutil.NoSuchProcess):
                do(process)  # type: ignore[operator] # a method of its class
