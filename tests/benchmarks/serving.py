"""``cbmir serve`` as programs ask it: start, time of an answer, answers a second, memory; baseline: ``cbmir search``.

``python -m tests.benchmarks.serving ARCHIVE [--points 28800]``, where ARCHIVE holds DICOM files to ask with. The index
holds the features of the first of them, and synthetic ones between them, as :mod:`tests.benchmarks.million` makes them;
pictures are decoded, embedded by OpenVINO and searched for.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import httpx
import numpy as np
import psutil

from index.address import parse_address
from index.opening import open_index
from tests.benchmarks.figures import Figure, print_figures, print_machine
from tests.benchmarks.million import BATCH, real_features, synthetic

ASKERS = 8
QUESTIONS = 240

PROGRAM = Path(sys.executable).with_name("cbmir")


def make_index(folder: Path, archive: Path, points: int) -> list[Path]:
    """The files of the archive in an index, and synthetic points up to that number; return those that ask."""
    job: list[str | Path] = [
        PROGRAM,
        "--quiet",
        "index",
        archive,
        "--index",
        folder,
        "--runtime",
        "openvino",
        "--limit",
        "400",
    ]
    subprocess.run(job, check=False)
    real = real_features(folder)
    with open_index(parse_address(folder), purpose="benchmark") as index:
        layer = index.description.layers[0]
        for number in range(-(-points // BATCH)):
            index.upsert([replace(p, vectors={layer: next(iter(p.vectors.values()))}) for p in synthetic(real, number)])
        index.optimize()
        stored = {payload.locations[0].path for _, payload in index.scroll()}
    return sorted(path for path in archive.rglob("*") if str(path.relative_to(archive)) in stored)


def memory(process: subprocess.Popen[str]) -> float:
    """MB of a program and its processes, what they share counted once."""
    tree = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
    return float(sum(one.memory_full_info().pss for one in tree)) / 2**20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("archive", type=Path)
    parser.add_argument("--points", type=int, default=28_800)
    options = parser.parse_args()
    print_machine()
    with tempfile.TemporaryDirectory() as work:
        folder = Path(work, "index")
        files = make_index(folder, options.archive, options.points)
        search: list[str | Path] = [PROGRAM, "search", files[0], "--index", folder, "--format", "json"]
        cold: dict[str, float] = {}
        for runtime in ("torch", "openvino"):
            times = []
            for _ in range(4):
                start = time.perf_counter()
                subprocess.run([*search, "--runtime", runtime], check=True, capture_output=True)
                times.append(time.perf_counter() - start)
            cold[runtime] = min(times)
        start = time.perf_counter()
        server = subprocess.Popen(
            [PROGRAM, "--quiet", "serve", "--index", folder, "--port", "0", "--rate", "10000"],
            stdout=subprocess.PIPE,
            text=True,
        )
        assert server.stdout
        address = server.stdout.readline().split()[-1]
        with httpx.Client(base_url=address, timeout=30) as client:
            contents = [file.read_bytes() for file in files]

            def ask(number: int) -> float:
                begun = time.perf_counter()
                content = contents[number % len(contents)]
                client.post("/api/search", files=[("image", ("query", content))]).raise_for_status()
                return time.perf_counter() - begun

            ask(0)
            first = time.perf_counter() - start
            alone = [ask(number) for number in range(QUESTIONS)]
            begun = time.perf_counter()
            with ThreadPoolExecutor(ASKERS) as askers:
                together = list(askers.map(ask, range(QUESTIONS)))
            rate = QUESTIONS / (time.perf_counter() - begun)
            used = memory(server)
        server.terminate()
        server.wait()
        p50, p95 = np.quantile(alone, [0.5, 0.95])
        ratio = cold["openvino"] / cold["torch"]
        one = 1 / float(np.mean(alone))
        figures = [
            Figure("cbmir search, torch", f"{cold['torch']:.2f} s"),
            Figure("cbmir search, openvino", f"{cold['openvino']:.2f} s", "torch", ratio, "0.17"),
            Figure("cbmir serve, first answer", f"{first:.2f} s", goal="3 s"),
            Figure("then, one asker, p50", f"{1000 * p50:.0f} ms", "openvino", p50 / cold["openvino"], "60 ms"),
            Figure("p95", f"{1000 * p95:.0f} ms", goal="150 ms"),
            Figure(f"{ASKERS} askers", f"{rate:.1f}/s", f"one asker, {one:.1f}/s", rate / one, "20/s"),
            Figure("their p95", f"{1000 * float(np.quantile(together, 0.95)):.0f} ms"),
            Figure("memory of all its processes", f"{used:,.0f} MB", f"{options.points:,} points", goal="900 MB"),
        ]
        print_figures(figures)


if __name__ == "__main__":
    main()
