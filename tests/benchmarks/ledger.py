"""The ledger: rows a second into it, out of it, to a server and from there to another machine.

``python -m tests.benchmarks.ledger [--files 10000000] [--shared 1000000]``. The server is the stand-in of the tests, a
process of its own on the same cores. The baseline of each figure is SQLite's own bare insert of the same rows.
"""

from __future__ import annotations

import argparse
import os
import sqlite3
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing
from itertools import islice
from pathlib import Path
from uuid import UUID

from index.address import parse_address
from index.ledger import FileKey, FileRecord, Ledger
from index.ledgers import open_ledger, reading_ledger
from index.opening import create_index
from tests.benchmarks.figures import Figure, print_figures
from tests.index.conftest import describe
from tests.support.stand_in.process import StandInProcess

DIRECTORY_FILES = 400
"""As many as a CT series has slices."""

COMMIT_FILES = 2_000
"""What a job commits in five seconds."""


def records(count: int) -> Iterator[FileRecord]:
    """Files of an archive, in the order in which it is walked."""
    for number in range(count):
        directory, name = divmod(number, DIRECTORY_FILES)
        key = FileKey(0, f"patients/{directory // 20:06d}/study-{directory % 20}/series", f"IM{name:06d}.dcm")
        yield FileRecord(key, 526_336, 1_790_000_000_000_000_000 + number, "indexed", None, (UUID(int=number),))


def _batches(count: int) -> Iterator[list[FileRecord]]:
    left = records(count)
    while batch := list(islice(left, COMMIT_FILES)):
        yield batch


def run(files: int, shared: int) -> list[Figure]:
    """A figure for each way."""
    with tempfile.TemporaryDirectory(dir=os.environ.get("TMPDIR")) as work:
        bare = _bare(Path(work, "bare"), min(files, 1_000_000))
        return [*_local(Path(work), files, bare), *_shared(Path(work), shared, bare)]


def _bare(folder: Path, count: int) -> float:
    """Rows a second that SQLite takes."""
    folder.mkdir()
    rows = [(0, one.key.directory, one.key.name, one.size, one.mtime_ns, one.points[0].bytes) for one in records(count)]
    started = time.perf_counter()
    with closing(sqlite3.connect(folder / "bare.sqlite")) as database:
        database.execute("CREATE TABLE files (a, b, c, d, e, f, PRIMARY KEY (a, b, c)) WITHOUT ROWID")
        database.execute("PRAGMA journal_mode = WAL")
        for start in range(0, count, COMMIT_FILES):
            with database:
                batch = rows[start : start + COMMIT_FILES]
                database.executemany("INSERT OR REPLACE INTO files VALUES (?,?,?,?,?,?)", batch)
    return count / (time.perf_counter() - started)


def _local(work: Path, files: int, bare: float) -> list[Figure]:
    folder = work / "local"
    folder.mkdir()
    with closing(Ledger(folder)) as ledger:
        started = time.perf_counter()
        for batch in _batches(files):
            ledger.put(batch)
        put = files / (time.perf_counter() - started)
        started = time.perf_counter()
        read = sum(len(ledger.directory(0, directory)) for directory in ledger.directories(0))
        walked = read / (time.perf_counter() - started)
    size = sum(path.stat().st_size for path in folder.iterdir()) / files
    return [
        Figure(f"{files:,} files put", f"{put:,.0f} files/s", f"SQLite {bare:,.0f}", put / bare),
        Figure("  known again by a walk", f"{walked:,.0f} files/s", f"SQLite {bare:,.0f}", walked / bare),
        Figure("  on the disk", f"{size:.0f} bytes a file", "", 1.0),
    ]


def _shared(work: Path, files: int, bare: float) -> list[Figure]:
    with StandInProcess(work / "server") as server:
        text = f"http://127.0.0.1:1/scans?grpc_port={server.port}"
        os.environ["CBMIR_STATE"] = str(work / "a")
        create_index(parse_address(text), describe(), purpose="benchmark").close()
        with closing(open_ledger(parse_address(text), purpose="benchmark")) as ledger:
            started, busy = time.perf_counter(), time.process_time()
            for batch in _batches(files):
                ledger.put(batch)
            put, busy = files / (time.perf_counter() - started), (time.process_time() - busy) / files * 1e3
        os.environ["CBMIR_STATE"] = str(work / "b")
        started = time.perf_counter()
        with reading_ledger(parse_address(text)) as again:
            assert again
            assert sum(again.counts().values()) == files
        pulled = files / (time.perf_counter() - started)
        started = time.perf_counter()
        with reading_ledger(parse_address(text)):
            asked = time.perf_counter() - started
    return [
        Figure(f"{files:,} files put and shared", f"{put:,.0f} files/s", f"SQLite {bare:,.0f}", put / bare),
        Figure("  processor time of the client", f"{busy:.3f} ms a file", "", 1.0),
        Figure("  learned by another machine", f"{pulled:,.0f} files/s", f"SQLite {bare:,.0f}", pulled / bare),
        Figure("  asked again, nothing new", f"{asked:.2f} s", "", 1.0),
    ]


def main() -> None:
    """Measure with what the command line gives."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--files", type=int, default=10_000_000)
    parser.add_argument("--shared", type=int, default=1_000_000)
    arguments = parser.parse_args()
    print_figures(run(arguments.files, arguments.shared))


if __name__ == "__main__":
    main()
