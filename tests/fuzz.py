"""Damaged files made from good ones by a seed: bytes flipped, cut and spliced, headers and pixel data that lie.

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

from index.address import parse_address
from model.errors import ImageError
from model.images.reading import read_frames
from tests.fuzz_kinds import header_that_lies, odd_pictures, pack, pixel_data_that_lie
from workers.indexing.settings import Machine

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
    """One to three damages to one of the contents: to its bytes, to what it says of itself, or to both."""
    content = rng.choice(contents)
    if (kind := rng.random()) < 0.5:
        content = (header_that_lies if kind < 0.25 else pixel_data_that_lie)(rng, content)
        if kind < 0.4:
            return content
    changed = bytearray(content)
    for _ in range(rng.choice((1, 1, 2, 3))):
        if changed:
            changed = rng.choice(DAMAGES)(rng, changed, rng.choice(contents))
    return bytes(changed)


def good_files(folders: Sequence[Path]) -> list[bytes]:
    """What to damage, in a fixed order: files that can be read."""
    paths = sorted(path for folder in folders for path in folder.rglob("*") if path.is_file())
    return [path.read_bytes() for path in paths if path.stat().st_size <= LARGEST and _readable(path)]


def _readable(path: Path) -> bool:
    try:
        return next(read_frames(path), None) is not None
    except ImageError:
        return False


def write(folder: Path, count: int, seed: int, sources: Sequence[Path]) -> int:
    """Write so many damaged files, a thousand to a directory, each hundredth into an archive file.

    Returns:
        How many of the archive files are damaged themselves, so that nobody can say what is in them.
    """
    rng, contents = random.Random(seed), good_files(sources) + odd_pictures()
    broken = number = 0
    while number < count:
        path = folder / f"{number // 1000:03}" / f"{number:06}"
        path.parent.mkdir(parents=True, exist_ok=True)
        if number % 100 == 99 and number + 5 <= count:
            packed = pack(rng, path, [damaged(rng, contents) for _ in range(5)])
            if rng.random() < 0.4:
                content = bytearray(packed.read_bytes())
                packed.write_bytes(rng.choice(DAMAGES)(rng, content, rng.choice(contents)))
                broken += 1
            number += 5
        else:
            path.write_bytes(damaged(rng, contents))
            number += 1
    return broken


def run(folder: Path, count: int, broken: int, file_seconds: float) -> None:
    """Index them with an untrained network and check the report; exit with what is wrong."""
    from index.ledger import Ledger
    from index.opening import open_index
    from tests.benchmarks.memory import Sampler
    from tests.support.models import make_model
    from workers.indexing.job import index_archive
    from workers.indexing.settings import JobSettings

    with tempfile.TemporaryDirectory(prefix="cbmir-fuzz-") as work:
        index = Path(work, "index")
        sampler = Sampler(os.getpid())
        sampler.start()
        model = make_model(Path(work, "model.safetensors"), seed=0)
        report = index_archive(
            JobSettings((folder,), parse_address(index), model, machine=Machine(file_seconds=file_seconds))
        )
        peak = max(sample.anonymous_and_shared for sample in sampler.stop())
        ledger = Ledger(index, read_only=True)
        states = ledger.counts()
        ledger.close()
        with open_index(parse_address(index), purpose="fuzz") as opened:
            points = opened.count()
    names = [file.path for file in report.left_out]
    print(
        f"{report.files_found:,} files: {report.files_indexed:,} indexed as {points:,} points, {len(names):,} left out"
    )
    for reason, number in report.left_out_by_reason.items():
        print(f"  {number:6,} {reason}")
    print(f"{report.files_in_part:,} of the files indexed without some of their frames")
    print(f"{report.seconds_total:.0f} s, peak memory {peak / 2**20:,.0f} MB")
    wrong = []
    # A damaged archive file holds five files at most, and stands for itself if it cannot be opened.
    fewest, most = count - 4 * broken, count + broken
    if not fewest <= report.files_found <= most or report.files_indexed + len(names) != report.files_found:
        wrong.append(f"not every file is counted once: {fewest:,} to {most:,} are there")
    if len(names) != len(set(names)):
        wrong.append("a file is named twice")
    if states.get("indexed", 0) != report.files_indexed or states.get("writing"):
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
    broken = write(arguments.folder, arguments.count, arguments.seed, arguments.sources)
    if arguments.run:
        run(arguments.folder, arguments.count, broken, arguments.file_seconds)


if __name__ == "__main__":
    main()
