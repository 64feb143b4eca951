"""The job ledger: which files an index holds, as which points, and which jobs were run. SQLite beside the index."""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Literal, NamedTuple
from uuid import UUID

from model.errors import DiskFullError, VectorIndexError

NAME = "ledger.sqlite"

State = Literal["writing", "indexed", "left out"]
"""Of a file: its points may be partly there; they are all there; it was left out."""


class Known(NamedTuple):
    """What a walk asks of a file: size, time of change in nanoseconds, state, label, and why it lacks something."""

    size: int
    mtime_ns: int
    state: State
    label: str | None
    reason: str | None = None

    @property
    def stamp(self) -> tuple[int, int]:
        """Size and time of change: a file that has them still is taken for unchanged."""
        return self.size, self.mtime_ns


Row = tuple[int, str, str, int, int, str, str | None, bytes, str | None, str | None]
"""A file as the database has it: root, directory, name, size, time of change in nanoseconds, state, label, the points'
ids of 16 bytes each, reason, detail."""

BUSY_SECONDS = 60.0
"""Time to wait for another job's transaction."""

_SCHEMA = """
CREATE TABLE IF NOT EXISTS files (
    root INTEGER NOT NULL, directory TEXT NOT NULL, name TEXT NOT NULL,
    size INTEGER NOT NULL, mtime_ns INTEGER NOT NULL,
    state TEXT NOT NULL, label TEXT, points BLOB NOT NULL, reason TEXT, detail TEXT,
    PRIMARY KEY (root, directory, name)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS jobs (
    number INTEGER PRIMARY KEY, started TEXT NOT NULL, ended TEXT, outcome TEXT NOT NULL, report TEXT
);
"""


_OF_ONE_MACHINE = "DROP TABLE IF EXISTS shared; DROP TABLE IF EXISTS sessions;"
"""What :mod:`index.sharing.shared_ledger` notes beside the files, and a copy must not have."""


@dataclass(frozen=True, slots=True)
class FileKey:
    """A file by the number of its root, its directory below the root, and its name."""

    root: int
    directory: str
    name: str

    @property
    def path(self) -> str:
        """Relative to the root; empty if the root is the file itself."""
        return f"{self.directory}/{self.name}" if self.directory else self.name


@dataclass(frozen=True, slots=True)
class FileRecord:
    """What the ledger knows of a file; ``points`` are all the points that it may have in the index.

    ``reason`` and ``detail`` say why it was left out or, of an indexed file, why some of its frames were.
    """

    key: FileKey
    size: int
    mtime_ns: int
    state: State
    label: str | None
    points: tuple[UUID, ...]
    reason: str | None = None
    detail: str | None = None


@dataclass(frozen=True, slots=True)
class JobRecord:
    """A job: when it ran (ISO 8601, UTC), how it ended ("running" also if it was killed), its report as JSON."""

    number: int
    started: str
    ended: str | None
    outcome: str
    report: str | None


class Ledger:
    """The ledger in an index folder. Any number of readers; jobs on a server's index may write to one at once."""

    def __init__(self, folder: Path, *, read_only: bool = False) -> None:
        self._path = folder / NAME
        with self._errors():
            if read_only:
                self._connection = self._open_read_only()
            else:
                self._connection = sqlite3.connect(self._path, timeout=BUSY_SECONDS, check_same_thread=False)
                self._connection.execute("PRAGMA journal_mode = WAL")
                self._connection.execute("PRAGMA synchronous = NORMAL")
                self._connection.executescript(_SCHEMA)

    def _open_read_only(self) -> sqlite3.Connection:
        """Open what is there; where not even the log beside it can be made, as it is without that log."""
        for parameters in ("mode=ro", "mode=ro&immutable=1"):
            connection = sqlite3.connect(f"{self._path.as_uri()}?{parameters}", uri=True, check_same_thread=False)
            try:
                connection.execute("SELECT 1 FROM files LIMIT 1").fetchone()
            except sqlite3.OperationalError:
                connection.close()
                if "immutable" in parameters:
                    raise
            else:
                return connection
        raise AssertionError("one of the two has opened it, or has raised")

    def directory(self, root: int, directory: str) -> dict[str, Known]:
        """The files known in one directory, by name."""
        query = "SELECT name, size, mtime_ns, state, label, reason FROM files WHERE root = ? AND directory = ?"
        with self._errors():
            return {row[0]: Known(*row[1:]) for row in self._connection.execute(query, (root, directory))}

    def directories(self, root: int) -> set[str]:
        """All directories of a root in which files are known."""
        query = "SELECT DISTINCT directory FROM files WHERE root = ?"
        with self._errors():
            return {row[0] for row in self._connection.execute(query, (root,))}

    def directories_below(self, root: int, path: str) -> list[str]:
        """The directories below a path in which files are known, in order."""
        query = "SELECT DISTINCT directory FROM files WHERE root = ? AND directory >= ? AND directory < ? ORDER BY 1"
        with self._errors():
            found = self._connection.execute(query, (root, f"{path}/", f"{path}0"))  # '0' is the character behind '/'
            return [row[0] for row in found]

    def points(self, keys: Iterable[FileKey]) -> dict[FileKey, tuple[UUID, ...]]:
        """The points that known files may have in the index."""
        query = "SELECT points FROM files WHERE root = ? AND directory = ? AND name = ?"
        found = {}
        with self._errors():
            for key in keys:
                row = self._connection.execute(query, (key.root, key.directory, key.name)).fetchone()
                if row:
                    found[key] = _unpack(row[0])
        return found

    def point_ids(self, *states: State) -> Iterator[bytes]:
        """The ids of all points of the files of some states, 16 bytes each; those of copies more than once."""
        with self._errors():
            rows = (self._connection.execute("SELECT points FROM files WHERE state = ?", (state,)) for state in states)
            for (packed,) in chain.from_iterable(rows):
                yield from (packed[start : start + 16] for start in range(0, len(packed), 16))

    def holding(self, points: Collection[bytes]) -> Iterator[FileKey]:
        """The indexed files that have one of these points, as :meth:`point_ids` gives them."""
        query = "SELECT root, directory, name, points FROM files WHERE state = 'indexed'"
        with self._errors():
            for *key, packed in self._connection.execute(query):
                if any(packed[start : start + 16] in points for start in range(0, len(packed), 16)):
                    yield FileKey(*key)

    def label(self, key: FileKey) -> str | None:
        """The label of a file, ``None`` also if it is not known."""
        query = "SELECT label FROM files WHERE root = ? AND directory = ? AND name = ?"
        with self._errors():
            row = self._connection.execute(query, (key.root, key.directory, key.name)).fetchone()
        return row[0] if row else None

    def put(self, records: Sequence[FileRecord]) -> None:
        """Insert or replace files, all or none of them."""
        self.put_rows(
            (
                r.key.root,
                r.key.directory,
                r.key.name,
                r.size,
                r.mtime_ns,
                r.state,
                r.label,
                _pack(r.points),
                r.reason,
                r.detail,
            )
            for r in records
        )

    def rows(self, keys: Iterable[FileKey] | None = None) -> Iterator[Row]:
        """Known files as the database has them: of these keys, or all."""
        with self._errors():
            if keys is None:
                yield from self._connection.execute("SELECT * FROM files")
                return
            query = "SELECT * FROM files WHERE root = ? AND directory = ? AND name = ?"
            for key in keys:
                yield from self._connection.execute(query, (key.root, key.directory, key.name))

    def put_rows(self, rows: Iterable[Row]) -> None:
        """Insert or replace files that :meth:`rows` gave, all or none of them."""
        with self._errors(), self._connection:
            self._connection.executemany("INSERT OR REPLACE INTO files VALUES (?,?,?,?,?,?,?,?,?,?)", rows)

    def mark_writing(self, keys: Iterable[FileKey]) -> None:
        """Call files half done, whose points are about to go or to change: a job that finds them does them again."""
        query = "UPDATE files SET state = 'writing' WHERE root = ? AND directory = ? AND name = ?"
        with self._errors(), self._connection:
            self._connection.executemany(query, ((key.root, key.directory, key.name) for key in keys))

    def leave_out(self, points: Mapping[FileKey, Collection[UUID]], reason: str, detail: str) -> None:
        """Call files left out that have no other points than these; the points stay noted until they are dropped."""
        query = (
            "UPDATE files SET state = 'left out', reason = ?, detail = ? WHERE root = ? AND directory = ? AND name = ?"
        )
        with self._errors(), self._connection:
            for key, before in self.points(points).items():
                if set(before) <= set(points[key]):
                    self._connection.execute(query, (reason, detail, key.root, key.directory, key.name))

    def drop_points(self, points: Mapping[FileKey, Collection[UUID]]) -> None:
        """Take points off their files, once they are out of the index."""
        query = "UPDATE files SET points = ? WHERE root = ? AND directory = ? AND name = ?"
        with self._errors(), self._connection:
            for key, before in self.points(points).items():
                left = tuple(point for point in before if point not in points[key])
                self._connection.execute(query, (_pack(left), key.root, key.directory, key.name))

    def forget(self, keys: Iterable[FileKey]) -> None:
        """Remove files from the ledger."""
        rows = ((key.root, key.directory, key.name) for key in keys)
        with self._errors(), self._connection:
            self._connection.executemany("DELETE FROM files WHERE root = ? AND directory = ? AND name = ?", rows)

    def counts(self, root: int | None = None) -> dict[str, int]:
        """Number of files by state, of one root or of all."""
        query = "SELECT state, COUNT(*) FROM files WHERE ? IS NULL OR root = ? GROUP BY state"
        with self._errors():
            return dict(self._connection.execute(query, (root, root)).fetchall())

    def indexed_in_part(self) -> int:
        """Number of indexed files of which some frames were left out."""
        query = "SELECT COUNT(*) FROM files WHERE state = 'indexed' AND reason IS NOT NULL"
        with self._errors():
            return int(self._connection.execute(query).fetchone()[0])

    def labelled(self) -> int:
        """Number of indexed files that have a label."""
        query = "SELECT COUNT(*) FROM files WHERE state = 'indexed' AND label IS NOT NULL"
        with self._errors():
            return int(self._connection.execute(query).fetchone()[0])

    def keys(self, state: str, reason: str | None = None) -> Iterator[FileKey]:
        """The files of a state, and of one reason if it is given, directory by directory."""
        query = "SELECT root, directory, name FROM files WHERE state = ? AND (? IS NULL OR reason = ?)"
        with self._errors():
            for row in self._connection.execute(query, (state, reason, reason)):
                yield FileKey(*row)

    def claim(self, roots: Mapping[int, str]) -> None:
        """Say that this process works at these roots, by number, with their addresses; until the ledger is closed.

        Nobody else can work at the roots of an embedded index, which is locked as a whole, so that this does nothing.

        Raises:
            IndexLockedError: another process works at one of them.
        """

    def start_job(self, started: str, report: str = "") -> int:
        """Enter a job, with what its report can say yet; return its number."""
        query = "INSERT INTO jobs (started, outcome, report) VALUES (?, 'running', ?)"
        with self._errors(), self._connection:
            cursor = self._connection.execute(query, (started, report or None))
            assert cursor.lastrowid is not None
            return cursor.lastrowid

    def end_job(self, number: int, ended: str, outcome: str, report: str) -> None:
        """Enter a job's end."""
        query = "UPDATE jobs SET ended = ?, outcome = ?, report = ? WHERE number = ?"
        with self._errors(), self._connection:
            self._connection.execute(query, (ended, outcome, report, number))

    def jobs(self) -> Iterator[JobRecord]:
        """All jobs, the one that was started last first."""
        query = "SELECT number, started, ended, outcome, report FROM jobs ORDER BY started DESC, number DESC"
        with self._errors():
            for row in self._connection.execute(query):
                yield JobRecord(*row)

    def last_job(self) -> JobRecord | None:
        """The job that was started last."""
        return next(self.jobs(), None)

    def copy_to(self, folder: Path) -> None:
        """Copy the whole ledger into another index's folder, replacing one that is there."""
        with self._errors(), closing(sqlite3.connect(folder / NAME)) as target:
            self._connection.backup(target)
            target.executescript(_OF_ONE_MACHINE)

    def close(self) -> None:
        """Close the database."""
        self._connection.close()

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            if "full" in str(error):
                raise DiskFullError(
                    f"the disk of {self._path} is full: make room and run the same command again; nothing is lost"
                ) from error
            raise VectorIndexError(f"the ledger {self._path} cannot be used: {error}") from error


def _pack(points: tuple[UUID, ...]) -> bytes:
    return b"".join(point.bytes for point in points)


def _unpack(blob: bytes) -> tuple[UUID, ...]:
    return tuple(UUID(bytes=blob[n : n + 16]) for n in range(0, len(blob), 16))
