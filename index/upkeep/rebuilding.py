"""A lost ledger, made again from the points: they know which files they came from."""

from __future__ import annotations

import sqlite3
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from itertools import groupby, islice
from pathlib import Path
from typing import Any
from uuid import UUID

from index.engines.engine import Searchable
from index.ledger import FileKey, FileRecord, Ledger, State
from index.schema import Stamp

_BATCH = 1024
_TOLD = 10_000

_SCHEMA = """
CREATE TABLE found (
    root INTEGER, directory TEXT, name TEXT, size INTEGER, mtime_ns INTEGER, frames INTEGER, label TEXT, point BLOB
);
"""


@dataclass(frozen=True, slots=True)
class Rebuilt:
    """What was entered.

    Attributes:
        files: that the ledger did not know.
        files_again: of them, those that the next job reads again: the index lacks frames of them, or its points are of
            a version that did not note a file's size and time.
    """

    files: int
    files_again: int

    def __str__(self) -> str:
        return f"{self.files:,} files, of which the next job reads {self.files_again:,} again"


def rebuild_ledger(index: Searchable, ledger: Ledger, *, progress: Callable[[int], None] = lambda _: None) -> Rebuilt:
    """Enter the files that the index has points of, and the ledger does not know.

    Files that were left out have no points: the next job tries them again.

    Args:
        index: open; nothing is changed.
        ledger: of the same index, open to be written.
        progress: told how many points were looked at.

    Raises:
        VectorIndexError: the engine refused, or the ledger cannot be written.
    """
    with (
        tempfile.TemporaryDirectory(prefix="cbmir-ledger-") as folder,
        closing(sqlite3.connect(Path(folder, "points.sqlite"))) as database,
    ):
        database.executescript(_SCHEMA)
        database.executemany("INSERT INTO found VALUES (?,?,?,?,?,?,?,?)", _found(index, progress))
        files = again = 0
        records = _records(database)
        while batch := list(islice(records, _BATCH)):
            known = ledger.points(record.key for record in batch)
            fresh = [record for record in batch if record.key not in known]
            ledger.put(fresh)
            files += len(fresh)
            again += sum(record.state != "indexed" or record.size < 0 for record in fresh)
    return Rebuilt(files, again)


def _found(index: Searchable, progress: Callable[[int], None]) -> Iterator[tuple[Any, ...]]:
    """A row for each file that each point lies in."""
    for number, (point, payload) in enumerate(index.scroll(), 1):
        for location in payload.locations:
            directory, _, name = location.path.rpartition("/")
            # Without a stamp no file is like it: the next job takes it for changed.
            size, mtime_ns, frames = location.stamp or Stamp(-1, -1, 0)
            yield location.root, directory, name, size, mtime_ns, frames, payload.label, point.bytes
        if number % _TOLD == 0:
            progress(number)


def _records(database: sqlite3.Connection) -> Iterator[FileRecord]:
    rows: Iterable[tuple[Any, ...]] = database.execute("SELECT * FROM found ORDER BY root, directory, name")
    for key, found in groupby(rows, key=lambda row: FileKey(*row[:3])):
        points = list(found)
        # Of copies that were read at different times the last one counts.
        size, mtime_ns, frames = max((row[3:6] for row in points), key=lambda stamp: int(stamp[1]))
        ids = tuple(dict.fromkeys(UUID(bytes=row[7]) for row in points))
        # Points of a former version of the file are no frames of this one; the next job drops them.
        whole = len({row[7] for row in points if row[3:6] == (size, mtime_ns, frames)})
        state: State = "indexed" if whole >= frames and whole == len(ids) else "writing"
        yield FileRecord(key, size, mtime_ns, state, points[0][6], ids)
