"""A resumed run with nothing to do, over a bare walk that stats every file, both as whole processes."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

from tests.benchmarks.figures import Figure

RUNS = 7

WALK = """
import os, sys
for folder, _, files in os.walk(sys.argv[1]):
    for name in files:
        os.stat(os.path.join(folder, name))
"""


def run(model: Path, archive: Path, index: Path) -> list[Figure]:
    """The two in turn, after one warm-up of each."""
    program = Path(sys.executable).with_name("cbmir")
    resumed, walk = [], []
    for _ in range(RUNS + 1):
        resumed.append(seconds([str(program), "index", str(archive), "--index", str(index), "--model", str(model)]))
        walk.append(seconds([sys.executable, "-c", WALK, str(archive)]))
    ours, bare = float(np.median(resumed[1:])), float(np.median(walk[1:]))
    return [Figure("resumed run, nothing to do", f"{ours:.2f} s", f"bare walk {bare:.2f} s", ours / bare, "<= 4")]


def seconds(command: list[str]) -> float:
    """Wall time of a process that must succeed, and may keep the modules that it compiled, as an installed one does."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    started = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True, env=environment)
    return time.perf_counter() - started
