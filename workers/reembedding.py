"""Making an index anew beside itself, with another model or schema, and putting it in its place when it is whole."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

from index.address import home, parse_address
from index.lock import IndexLock
from model.errors import SettingError, VectorIndexError
from workers.job import index_archive
from workers.report import JobReport
from workers.settings import JobObserver, JobSettings


def reembed(settings: JobSettings, observer: JobObserver | None = None) -> JobReport:
    """Index the archives into a new folder beside the index, then replace the index by it.

    Until then the old index answers as before. An interrupted call is continued by the same call.

    Raises:
        SettingError: the index is a server's, or does not exist.
        IndexLockedError: another process holds the old index when it is to be replaced; the new one is kept.
        JobError, CheckpointError, VectorIndexError, JobInterrupted: as :func:`workers.job.index_archive`.
    """
    if not isinstance(parse_address(settings.index), Path):
        raise SettingError("--reembed works on folders: index into a new collection, then drop the old one")
    if settings.limit is not None:
        raise SettingError("--reembed and --limit exclude each other: the old index would be replaced by a part of it")
    folder = home(settings.index)
    if not folder.exists():
        raise SettingError(f"{folder} does not exist: leave --reembed out")
    new, old = (folder.with_name(folder.name + suffix) for suffix in (".reembedding", ".replaced"))
    report = index_archive(replace(settings, index=new), observer)
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
    return report
