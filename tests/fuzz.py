"""Damaged files made from good ones: bytes flipped, cut, spliced and overwritten, by a seed.

``python -m tests.fuzz FOLDER --count 10000 --seed 0 [--from FOLDER…]`` writes them, by default from the test files of
pydicom and pydicom-data; ``--run`` then indexes them as one job and checks that it ends with every file counted exactly
once.
"""

from __future__ import annotations

import argparse
import os
import random
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import data_store
import pydicom

from model.errors import ImageError
from model.reading import read_frames

LARGEST = 2**20
"""Bytes of the largest file that is damaged."""

SOURCES = [Path(pydicom.__file__).parent / "data" / "test_files", Path(data_store.__file__).parent / "data"]

Damage = Callable[[random.Random, bytearray, bytes], bytearray]


def _flip(rng: random.Random, content: bytearray, _other: bytes) -> bytearray:
    for _ in range(rng.choice((1, 2, 8, 64))):
        content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
    return content


def _flip_header(rng: random.Random, content: bytearray, _other: bytes) -> bytearray:
    for _ in range(rng.choice((1, 2, 8))):
        content[rng.randrange(min(len(content), 2048))] = rng.randrange(256)
    return content


def _cut(rng: random.Random, content: bytearray, _other: bytes) -> bytearray:
    return content[: rng.randrange(len(content))]


def _remove(rng: random.Random, content: bytearray, _other: bytes) -> bytearray:
    start = rng.randrange(len(content))
    del content[start : start + rng.choice((1, 2, 16, 1024))]
    return content


def _splice(rng: random.Random, content: bytearray, other: bytes) -> bytearray:
    here, there = rng.randrange(len(content)), rng.randrange(len(other))
    return content[:here] + other[there : there + rng.choice((4, 64, 4096, len(other)))]


def _overwrite(rng: random.Random, content: bytearray, _other: bytes) -> bytearray:
    start = rng.randrange(len(content))
    length = min(rng.choice((2, 4, 64, 4096)), len(content) - start)
    content[start : start + length] = rng.choice((b"\0", b"\xff")) * length
    return content


DAMAGES: tuple[Damage, ...] = (_flip, _flip_header, _cut, _remove, _splice, _overwrite)


def damaged(rng: random.Random, contents: list[bytes]) -> bytes:
    """One to three damages to one of the contents."""
    content = bytearray(rng.choice(contents))
    for _ in range(rng.choice((1, 1, 2, 3))):
        if content:
            content = rng.choice(DAMAGES)(rng, content, rng.choice(contents))
    return bytes(content)


def good_files(folders: Sequence[Path]) -> list[bytes]:
    """What to damage, in a fixed order: files that can be read."""
    paths = sorted(path for folder in folders for path in folder.rglob("*") if path.is_file())
    return [path.read_bytes() for path in paths if path.stat().st_size <= LARGEST and _readable(path)]


def _readable(path: Path) -> bool:
    try:
        return next(read_frames(path), None) is not None
    except ImageError:
        return False


def write(folder: Path, count: int, seed: int, sources: Sequence[Path]) -> None:
    """Write so many damaged files, a thousand to a directory."""
    rng, contents = random.Random(seed), good_files(sources)
    for number in range(count):
        path = folder / f"{number // 1000:03}" / f"{number:06}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(damaged(rng, contents))


def run(folder: Path, count: int, file_seconds: float) -> None:
    """Index them with an untrained network and check the report; exit with what is wrong."""
    from index.opening import open_index
    from tests.benchmarks.memory import Sampler
    from tests.conftest import make_model
    from workers.job import index_archive
    from workers.ledger import Ledger
    from workers.settings import JobSettings

    with tempfile.TemporaryDirectory(prefix="cbmir-fuzz-") as work:
        index = Path(work, "index")
        sampler = Sampler(os.getpid())
        sampler.start()
        model = make_model(Path(work, "model.safetensors"), seed=0)
        report = index_archive(JobSettings((folder,), index, model, file_seconds=file_seconds))
        peak = max(sample.anonymous_and_shared for sample in sampler.stop())
        ledger = Ledger(index, read_only=True)
        states = ledger.counts()
        ledger.close()
        with open_index(index, purpose="fuzz") as opened:
            points = opened.count()
    names = [file.path for file in report.left_out]
    print(
        f"{report.files_found:,} files: {report.files_indexed:,} indexed as {points:,} points, {len(names):,} left out"
    )
    for reason, number in report.left_out_by_reason.items():
        print(f"  {number:6,} {reason}")
    print(f"{report.seconds_total:.0f} s, peak memory {peak / 2**20:,.0f} MB")
    wrong = []
    if report.files_found != count or report.files_indexed + len(set(names)) != count or len(names) != len(set(names)):
        wrong.append("not every file is counted exactly once")
    if states != {"indexed": report.files_indexed, "left out": len(names)}:
        wrong.append(f"the ledger says {states}")
    sys.exit("; ".join(wrong) or 0)


def main() -> None:
    """Write damaged files, and index them if asked for."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--from", dest="sources", type=Path, nargs="+", default=SOURCES)
    parser.add_argument("--run", action="store_true")
    parser.add_argument("--file-seconds", type=float, default=20.0)
    arguments = parser.parse_args()
    write(arguments.folder, arguments.count, arguments.seed, arguments.sources)
    if arguments.run:
        run(arguments.folder, arguments.count, arguments.file_seconds)


if __name__ == "__main__":
    main()
