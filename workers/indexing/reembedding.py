"""Making an index anew beside itself, with another model or schema, and putting it in its place when it is whole."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from index.address import Address
from index.home.description import NAME as DESCRIPTION
from index.home.description import read_description
from index.home.unfinished import BUILDING, REPLACED
from index.ledger import NAME as LEDGER
from index.opening import resolve_model, take_lock
from model.errors import CbmirError, JobError, ModelMismatchError, Reason, SettingError, VectorIndexError
from workers.indexing.comparing import Lacking, find_lacking, keep_deleted, open_records
from workers.indexing.job import index_archive
from workers.indexing.planning import Plan
from workers.indexing.preparing import plan_job
from workers.indexing.report import TRANSIENT, JobReport
from workers.indexing.settings import JobObserver, JobSettings, Observers


def reembed(settings: JobSettings, observer: JobObserver | None = None) -> JobReport:
    """Index the archives into a new folder beside the index, then replace the index by it.

    Until then the old index answers as before. It is replaced only by an index that has every file that it has (with
    ``prune``, after asking, by one that lacks some, but not by an empty one). What was deleted from it stays out,
    unless ``retry_left_out`` asks it back. An interrupted call is continued by the same call.

    Raises:
        SettingError: as :func:`check_reembed`.
        IndexLockedError: another process holds the old index when it is to be replaced; the new one is kept.
        JobError: the new index lacks files that the old one has; both are kept.
        CheckpointError, VectorIndexError, JobInterrupted: as :func:`workers.indexing.job.index_archive`.
    """
    folder = settings.index.home
    new, old = building(folder), folder.with_name(folder.name + REPLACED)
    if _exchange_was_cut_off(settings):
        new.rename(folder)
        shutil.rmtree(old)
        return index_archive(settings, observer)
    check_reembed(settings)
    settings = _with_model(settings)
    with _until_the_exchange(settings, observer or JobObserver()) as inner:
        try:
            report = index_archive(replace(settings, index=Address(new)), inner)
        except ModelMismatchError as error:
            raise SettingError(f"{new} is left from another --reembed: delete it and try again ({error})") from error
        if (folder / LEDGER).exists():
            if not settings.retry_left_out:
                keep_deleted(folder, new)
            _refuse_loss(folder, new, report, inner.may_prune if settings.prune else None)
        _exchange(folder, new, old)
    return report


class _Inner(Observers):
    """Withholds the end of the job that makes the new index, which is not the end of the whole."""

    report: JobReport | None = None

    def ended(self, report: JobReport) -> None:
        self.report = report


@contextmanager
def _until_the_exchange(settings: JobSettings, observer: JobObserver) -> Iterator[_Inner]:
    inner = _Inner([observer])
    try:
        yield inner
    except (CbmirError, KeyboardInterrupt) as error:
        if inner.report and inner.report.outcome == "complete":
            inner.report.outcome, inner.report.error = "failed", str(error)
            if settings.report:
                inner.report.write(settings.report)
        raise
    finally:
        if inner.report:
            observer.ended(inner.report)


def check_reembed(settings: JobSettings) -> None:
    """Refuse what cannot be made anew, before anything is embedded.

    Raises:
        SettingError: there is no index, it is a server's, only a part is asked for, its labels would be lost, or what
            was deleted would be back.
    """
    if settings.index.server:
        raise SettingError("--reembed works on folders: index into a new collection, then drop the old one")
    if settings.limit is not None:
        raise SettingError("--reembed and --limit exclude each other: the old index would be replaced by a part of it")
    if settings.moved_from:
        raise SettingError("--reembed and --moved-from exclude each other: say first where the archive lies, then that")
    folder = settings.index.home
    if not ((folder / DESCRIPTION).exists() or (folder / LEDGER).exists()):
        raise SettingError(f"{folder} is no index: leave --reembed out to make one")
    if not (folder / LEDGER).exists():
        return
    with open_records(folder) as old:
        if settings.labels is None and (labelled := old.ledger.labelled()):
            raise SettingError(
                f"{labelled:,} files of {folder} have labels, which a new index would lack: give --labels"
            )
        deleted = sum(1 for _ in old.ledger.keys("left out", Reason.DELETED.value))
        # Hashed paths have another key in the new index: which files were deleted could not be told there.
        if deleted and old.description.path_privacy == "hash" and not settings.retry_left_out:
            raise SettingError(
                f"{deleted:,} files were deleted from {folder}, whose paths are hashed, so that a new index cannot "
                "keep them out: --retry-left-out says that they may come back"
            )


def plan_reembedding(settings: JobSettings) -> Plan:
    """What :func:`reembed` would do, without writing or starting anything; it refuses the same.

    Raises:
        CbmirError: as :func:`check_reembed` and :func:`workers.indexing.preparing.plan_job`.
    """
    if _exchange_was_cut_off(settings):
        return plan_job(replace(settings, index=Address(building(settings.index.home))))
    check_reembed(settings)
    return plan_job(replace(_with_model(settings), index=Address(building(settings.index.home))))


def _with_model(settings: JobSettings) -> JobSettings:
    """The new index has nothing yet that would say which model made the old one."""
    if settings.model:
        return settings
    folder = settings.index.home
    return replace(settings, model=resolve_model(settings.index, read_description(folder, any_version=True), None))


def _exchange_was_cut_off(settings: JobSettings) -> bool:
    """Whether a call was killed between the two steps in which the new index takes the place of the old one."""
    if settings.index.server:
        return False
    folder = settings.index.home
    return not folder.exists() and folder.with_name(folder.name + REPLACED).exists() and building(folder).exists()


def building(folder: Path) -> Path:
    """The folder in which an index is made anew."""
    return folder.with_name(folder.name + BUILDING)


def _exchange(folder: Path, new: Path, old: Path) -> None:
    try:
        shutil.rmtree(old, ignore_errors=True)
        lock = take_lock(folder, "cbmir index --reembed", 5.0)
        try:
            folder.rename(old)
            new.rename(folder)
        finally:
            lock.release()
        shutil.rmtree(old)
    except OSError as error:
        raise VectorIndexError(f"{new} is whole, but cannot replace {folder}: {error.strerror or error}") from error


def _refuse_loss(folder: Path, new_folder: Path, report: JobReport, may_prune: Callable[[int], bool] | None) -> None:
    with open_records(folder) as old, open_records(new_folder) as new:
        lacking = find_lacking(old, new)
        total = new.ledger.counts().get("indexed", 0)
        labels_lost = old.ledger.labelled() and not new.ledger.labelled()
    missing = sum(one.files for one in lacking.values())
    if missing and may_prune:
        _refuse_unseen(report, lacking, new_folder)
    if missing and not (total and may_prune and may_prune(missing)):
        raise JobError(
            f"the new index has {total:,} files, and lacks {missing:,} of the old one: is every archive named and "
            f"mounted? Both are kept, the new one in {new_folder}; --prune says, and is asked, that they are gone"
        )
    if labels_lost:
        raise JobError(f"the old index has labels and the new one none: give --labels, after deleting {new_folder}")


def _refuse_unseen(report: JobReport, lacking: Mapping[str, Lacking], new_folder: Path) -> None:
    """Files are gone only where the walk has seen that they are: not behind what could not be read."""
    unseen = [file for file in report.left_out if file.reason in TRANSIENT]
    if unseen:
        raise JobError(
            f"{unseen[0].path} could not be read ({unseen[0].detail}), so that what the new index lacks of the old one "
            f"may still be there: run the same command again; both are kept, the new one in {new_folder}"
        )
    for root, one in lacking.items():
        if one.is_empty:
            raise JobError(
                f"{root} has no file in the new index, and {one.files:,} in the old one: is it named, and mounted? "
                f"Both are kept, the new one in {new_folder}; if it is gone for good: cbmir delete --archive"
            )
