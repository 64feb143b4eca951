"""The lock file: every instance of a dataset, with address, size and checksum, so that anyone can fetch the same."""

from __future__ import annotations

import csv
import errno
import re
import shutil
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from pathlib import Path, PurePosixPath
from typing import Any, Final

from model.dataset.series_queries import require_class_name
from model.dataset.stored_objects import StoredObject
from model.errors import DatasetError, DiskFullError
from model.files import written_whole

LOCK: Final = "plan.lock.csv"


@dataclass(frozen=True, slots=True)
class LockedInstance:
    """One instance; ``slices`` is how many of its series are in the dataset, ``path`` where it lies in the folder."""

    label: str
    group: str
    collection: str
    modality: str
    licence: str
    doi: str
    series: str
    slices: int
    instance: str
    address: str
    size: int
    etag: str

    def __post_init__(self) -> None:
        """Refuse names that would lead out of the folder: plans and lock files come from other people."""
        require_class_name(self.label)
        for uid in (self.series, self.instance):
            if not _UID.fullmatch(uid):
                raise DatasetError(f"{uid!r} of {self.address} is no UID")

    @property
    def path(self) -> str:
        """Below the dataset's folder, with ``/``."""
        return str(PurePosixPath(self.label, self.series, f"{self.instance}.dcm"))

    @property
    def stored(self) -> StoredObject:
        """What the bucket has."""
        return StoredObject(self.address, self.size, self.etag)


_UID = re.compile(r"[0-9.]{1,64}")

_NAMES = [one.name for one in fields(LockedInstance)]


class LockFile:
    """The lock file of a dataset's folder; a series is in it with all of its instances, or not at all."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / LOCK
        self.instances = read_lock(self._path) if self._path.exists() else []
        found = Counter(one.series for one in self.instances)
        # An interruption may have cut the last series short: it is picked again.
        self.instances = [one for one in self.instances if found[one.series] == one.slices]
        self._rewrite()

    @property
    def series(self) -> set[str]:
        """The series that are picked."""
        return {one.series for one in self.instances}

    def add(self, instances: Sequence[LockedInstance]) -> None:
        """Append a series.

        Raises:
            DatasetError: the file cannot be written.
            DiskFullError: the disk is full.
        """
        with writing(self._path), self._path.open("a", encoding="utf-8", newline="") as file:
            csv.DictWriter(file, _NAMES).writerows(map(asdict, instances))
        self.instances += instances

    def _rewrite(self) -> None:
        with (
            writing(self._path),
            written_whole(self._path) as partial,
            partial.open("w", encoding="utf-8", newline="") as file,
        ):
            writer = csv.DictWriter(file, _NAMES)
            writer.writeheader()
            writer.writerows(map(asdict, self.instances))


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn what may happen while a file is written into our errors.

    Raises:
        DiskFullError: the disk is full.
        DatasetError: anything else.
    """
    try:
        yield
    except OSError as error:
        if error.errno in {errno.ENOSPC, errno.EDQUOT}:
            raise DiskFullError(f"the disk of {path} is full: make room and run the same command again") from error
        raise DatasetError(f"{path} cannot be written: {error.strerror or error}") from error


def is_lock(path: Path) -> bool:
    """Whether a file has a lock file's columns.

    Raises:
        DatasetError: it cannot be read.
    """
    try:
        with path.open(encoding="utf-8", newline="") as file:
            return next(csv.reader(file), None) == _NAMES
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DatasetError(f"{path} cannot be read as CSV: {error}") from error


def read_lock(path: Path) -> list[LockedInstance]:
    """The instances of a lock file; a line that was cut off at the end is left out.

    Raises:
        DatasetError: it is no lock file.
    """
    if not is_lock(path):
        raise DatasetError(f"{path} is no lock file of this program's version: move it away to fetch anew")
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    rows: list[dict[str, Any]] = list(csv.DictReader(line for line in lines if line.endswith("\n")))
    try:
        return [LockedInstance(**{**row, "slices": int(row["slices"]), "size": int(row["size"])}) for row in rows]
    except (TypeError, ValueError) as error:
        raise DatasetError(f"{path} cannot be read: {error}") from error


def take_lock(source: Path, folder: Path) -> None:
    """Put another dataset's lock file into a folder.

    Raises:
        DatasetError: the folder has one of other instances.
    """
    target = folder / LOCK
    if target.exists() and target.resolve() == source.resolve():
        return
    if target.exists():
        refuse_others({one.instance for one in read_lock(source)}, (one.instance for one in read_lock(target)), target)
    with writing(target), written_whole(target) as partial:
        shutil.copyfile(source, partial)


def refuse_others(wanted: set[str], locked: Iterable[str], target: Path) -> None:
    """Refuse a lock file with what was not asked for.

    Raises:
        DatasetError: it has.
    """
    if others := set(locked) - wanted:
        raise DatasetError(f"{target} holds {min(others)}, which is not of this plan: fetch into another folder")
