"""Downloading a plan: its instances are picked, locked in a file, and fetched; any step can be interrupted."""

from __future__ import annotations

import hashlib
import shutil
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

from model.dataset.bucket import Buckets
from model.dataset.lock_file import LOCK, LockedInstance, LockFile, is_lock, refuse_others, take_lock
from model.dataset.manifest import add_rows, row_of
from model.dataset.picking import header_bytes, pick_instances
from model.dataset.plan import read_plan
from model.errors import DatasetError, DiskFullError

if TYPE_CHECKING:
    import pandas as pd

CONNECTIONS: Final = 16

SPARE_BYTES: Final = 2**29
"""Space that must be left on the disk."""

HOPELESS: Final = 16
"""Number of failures, before anything was fetched, at which the download is given up."""

PROBE_SECONDS: Final = 3.0
"""Seconds of fetching after which the remaining time is estimated."""

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class FetchReport:
    """Files that are there, those fetched by this call, its bytes and seconds, and what is missing (address → why)."""

    files: int
    fetched: int
    size: int
    seconds: float
    left_out: dict[str, str]


class FetchObserver:
    """Told of a download's progress; does nothing unless overridden."""

    def planned(self, files: int, size: int, headers: int, licences: dict[str, int]) -> None:
        """A plan of so many files is to be fetched, of about so many bytes, after so many bytes of headers at most."""

    def picked(self, done: int, total: int) -> None:
        """The instances of ``done`` of ``total`` series are known."""

    def begins(self, files: int, size: int, licences: dict[str, int]) -> None:
        """So many files of so many bytes in all are to be fetched, under these licences (name → files)."""

    def estimated(self, seconds: float) -> None:
        """At the rate of the first files the rest will take so long."""

    def fetched(self, done: int, total: int, size: int) -> None:
        """``done`` of ``total`` files are there, ``size`` bytes since the beginning."""


def fetch_dataset(
    source: Path,
    folder: Path,
    *,
    buckets: Buckets | None = None,
    connections: int = CONNECTIONS,
    observer: FetchObserver | None = None,
) -> FetchReport:
    """Fetch a plan, or exactly what a lock file names, into a folder: images, lock file and manifest.

    What is there with the right checksum is not fetched again. A series or file that cannot be had is named in the
    report and stops nothing.

    Args:
        source: a plan, or a lock file.
        folder: to be made or completed.
        buckets: where the archive lies.
        connections: at once.
        observer: told of the progress.

    Raises:
        DatasetError: the plan cannot be read, or the folder holds another one's images.
        DiskFullError: the disk is too small, or became full; the same call goes on when there is room.
    """
    buckets, observer = buckets or Buckets(), observer or FetchObserver()
    if not source.is_file():
        what = "is a folder" if source.is_dir() else "does not exist"
        raise DatasetError(f"{source} {what}: give a plan of 'cbmir dataset plan', or a lock file")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DatasetError(f"{folder} cannot be made: {error.strerror or error}") from error
    left_out: dict[str, str] = {}
    with ThreadPoolExecutor(connections, thread_name_prefix="fetch") as pool:
        if is_lock(source):
            take_lock(source, folder)
            lock = LockFile(folder)
        else:
            lock = LockFile(folder)
            left_out |= _pick(pool, buckets, read_plan(source), lock, folder, observer)
        there, missing = _sift(pool, folder, lock.instances)
        total = sum(one.size for one in missing)
        _require_space(folder, total)
        observer.begins(len(missing), total, dict(Counter(one.licence for one in missing)))
        started, fetched = time.monotonic(), 0
        size, announced, failures = 0, False, _Failures()
        for one, future in _in_parallel(pool, lambda one: buckets.download(one.stored, folder / one.path), missing):
            try:
                future.result()
            except DiskFullError:
                raise
            except DatasetError as error:
                left_out[one.address] = str(error)
                failures.count(error)
                continue
            failures.forget()
            there.append(one)
            fetched, size = fetched + 1, size + one.size
            observer.fetched(fetched, len(missing), size)
            elapsed = time.monotonic() - started
            if not announced and elapsed > PROBE_SECONDS:
                announced = True
                observer.estimated((total - size) / (size / elapsed))
    add_rows(folder, [row_of(one) for one in there])
    return FetchReport(len(there), fetched, size, time.monotonic() - started, left_out)


def _pick(
    pool: ThreadPoolExecutor,
    buckets: Buckets,
    plan: pd.DataFrame,
    lock: LockFile,
    folder: Path,
    observer: FetchObserver,
) -> dict[str, str]:
    rows: list[dict[str, Any]] = [{str(name): value for name, value in row.items()} for row in plan.to_dict("records")]
    refuse_others({row["series"] for row in rows}, lock.series, folder / LOCK)
    known, left_out = {one.series: (one.label, one.slices) for one in lock.instances}, {}
    for row in rows:
        if known.get(row["series"], (row["label"], int(row["slices"]))) != (row["label"], int(row["slices"])):
            raise DatasetError(f"{folder / LOCK} is of a plan with other slices: fetch into another folder")
    wanted = [row for row in rows if row["series"] not in known]
    if wanted:
        size = int(sum(row["megabytes"] for row in wanted) * 1e6)
        _require_space(folder, size)
        licences: Counter[str] = Counter()
        for row in wanted:
            licences[row["licence"]] += row["slices"]
        headers = sum(header_bytes(row["instances"], row["slices"]) for row in wanted)
        observer.planned(sum(licences.values()), size, headers, dict(licences))
    failures = _Failures()
    done = len(rows) - len(wanted)

    def pick(row: dict[str, Any]) -> list[LockedInstance]:
        try:
            fractions = [float(one) for one in row["fractions"].split(";")]
        except ValueError as error:
            raise DatasetError(f"{row['address']}: the plan's fractions {row['fractions']!r} are no numbers") from error
        instances = pick_instances(buckets, row["address"], fractions)
        names = ("label", "group", "collection", "modality", "licence", "doi", "series")
        same = {name: str(row[name]) for name in names}
        return [
            LockedInstance(
                **same,
                slices=len(instances),
                instance=one.uid,
                address=one.stored.address,
                size=one.stored.size,
                etag=one.stored.etag,
            )
            for one in instances
        ]

    for row, future in _in_parallel(pool, pick, wanted):
        try:
            picked = future.result()
        except DatasetError as error:
            left_out[row["address"]] = str(error)
            failures.count(error)
        else:
            failures.forget()
            lock.add(picked)
        done += 1
        observer.picked(done, len(rows))
    return left_out


class _Failures:
    """Failures in a row, before anything came: an archive that is out of reach ends the run soon."""

    def __init__(self) -> None:
        self._number: int | None = 0

    def count(self, error: DatasetError) -> None:
        """One more.

        Raises:
            DatasetError: it is one too many.
        """
        if self._number is not None:
            self._number += 1
            if self._number >= HOPELESS:
                raise DatasetError(f"none of the first {HOPELESS} could be had: {error}") from error

    def forget(self) -> None:
        """Something came: from here on failures are single ones."""
        self._number = None


def _sift(
    pool: ThreadPoolExecutor, folder: Path, instances: Sequence[LockedInstance]
) -> tuple[list[LockedInstance], list[LockedInstance]]:
    """Those that are there, whole, and the others."""
    whole = list(pool.map(lambda one: _is_whole(folder / one.path, one), instances))
    there = [one for one, good in zip(instances, whole, strict=True) if good]
    return there, [one for one, good in zip(instances, whole, strict=True) if not good]


def _is_whole(path: Path, one: LockedInstance) -> bool:
    try:
        if path.stat().st_size != one.size:
            return False
        if one.stored.digest is None:
            return True
        with path.open("rb") as file:
            return (
                hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest() == one.stored.digest
            )
    except OSError:
        return False


def _in_parallel(
    pool: ThreadPoolExecutor, action: Callable[[Item], Result], items: Sequence[Item]
) -> Iterator[tuple[Item, Future[Result]]]:
    """Every item with its future, as they are done; what has not begun is given up if the caller stops."""
    futures = {pool.submit(action, item): item for item in items}
    try:
        for future in as_completed(futures):
            yield futures[future], future
    finally:
        for future in futures:
            future.cancel()


def _require_space(folder: Path, size: int) -> None:
    free = shutil.disk_usage(folder).free
    if size + SPARE_BYTES > free:
        raise DiskFullError(
            f"{folder} needs {size / 1e9:.1f} GB and half a GB to spare, its disk has {free / 1e9:.1f} GB: make room"
        )
