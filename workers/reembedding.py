"""Making an index anew beside itself, with another model or schema, and putting it in its place when it is whole."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from index.address import home, parse_address
from index.description_file import NAME as DESCRIPTION
from index.lock import IndexLock
from model.errors import JobError, ModelMismatchError, SettingError, VectorIndexError
from workers.job import index_archive
from workers.ledger import NAME as LEDGER
from workers.ledger import Ledger
from workers.report import JobReport
from workers.settings import JobObserver, JobSettings

BUILDING, REPLACED = ".reembedding", ".replaced"
"""Suffixes of the folders beside the index in which the new one is built, and from which the old one is removed."""


def reembed(settings: JobSettings, observer: JobObserver | None = None) -> JobReport:
    """Index the archives into a new folder beside the index, then replace the index by it.

    Until then the old index answers as before. It is replaced only by an index that has every file that it has (but,
    with ``prune``, files that are gone). An interrupted call is continued by the same call.

    Raises:
        SettingError: there is no index, it is a server's, or only a part is asked for.
        IndexLockedError: another process holds the old index when it is to be replaced; the new one is kept.
        JobError: the new index lacks files that the old one has; both are kept.
        CheckpointError, VectorIndexError, JobInterrupted: as :func:`workers.job.index_archive`.
    """
    if not isinstance(parse_address(settings.index), Path):
        raise SettingError("--reembed works on folders: index into a new collection, then drop the old one")
    if settings.limit is not None:
        raise SettingError("--reembed and --limit exclude each other: the old index would be replaced by a part of it")
    folder = home(settings.index)
    new, old = building(folder), folder.with_name(folder.name + REPLACED)
    if not folder.exists() and old.exists() and new.exists():
        new.rename(folder)  # a call was killed between the two steps of the exchange
        shutil.rmtree(old)
        return index_archive(settings, observer)
    if not ((folder / DESCRIPTION).exists() or (folder / LEDGER).exists()):
        raise SettingError(f"{folder} is no index: leave --reembed out to make one")
    try:
        report = index_archive(replace(settings, index=new), observer)
    except ModelMismatchError as error:
        raise SettingError(f"{new} is left from another --reembed: delete it and try again ({error})") from error
    _refuse_loss(folder, new, pruned=settings.prune)
    _exchange(folder, new, old)
    return report


def building(folder: Path) -> Path:
    """The folder in which an index is made anew."""
    return folder.with_name(folder.name + BUILDING)


def _exchange(folder: Path, new: Path, old: Path) -> None:
    try:
        shutil.rmtree(old, ignore_errors=True)
        lock = IndexLock(folder, "cbmir index --reembed")
        lock.acquire(5.0)
        try:
            folder.rename(old)
            new.rename(folder)
        finally:
            lock.release()
        shutil.rmtree(old)
    except OSError as error:
        raise VectorIndexError(f"{new} is whole, but cannot replace {folder}: {error.strerror or error}") from error


def _refuse_loss(folder: Path, new: Path, *, pruned: bool) -> None:
    """Paths may be hashed, with another key in each index: then files are only counted."""
    if not (folder / LEDGER).exists():
        return
    with _ledger(folder) as old_ledger, _ledger(new) as new_ledger:
        before, after = (ledger.counts().get("indexed", 0) for ledger in (old_ledger, new_ledger))
        labelled_before, labelled_after = old_ledger.labelled(), new_ledger.labelled()
    if after < before and not pruned:
        raise JobError(
            f"the new index has {after:,} files, the old one {before:,}: is every archive named and mounted? Both are "
            f"kept, the new one in {new}; --prune says that the others are gone"
        )
    if labelled_before and not labelled_after:
        raise JobError(f"the old index has labels and the new one none: give --labels, after deleting {new}")


@contextmanager
def _ledger(folder: Path) -> Iterator[Ledger]:
    ledger = Ledger(folder, read_only=True)
    try:
        yield ledger
    finally:
        ledger.close()
