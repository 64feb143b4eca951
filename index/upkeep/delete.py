"""Removal of points: those of files that are gone, and those that a user wants out."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from uuid import UUID

from index.address import Address
from index.engines.engine import Index, Where
from index.filters import as_stored, check_fields
from index.home.key import path_hider, require_privacy_key
from index.home.unfinished import BUILDING
from index.ledger import FileKey, Ledger
from index.ledgers import open_ledger
from index.opening import open_index
from index.roots import Root, parts_of, require_utf8_address
from index.schema import Description, Location
from index.upkeep.dropping import drop_points
from index.upkeep.rebuilding import rebuild_ledger
from model.errors import Reason, SettingError

_DELETE_POINTS = 1024
_FORGET_FILES = 1024


def forget_files(index: Index, ledger: Ledger, gone: Collection[FileKey]) -> set[FileKey]:
    """Remove the points of files that are gone, and the files from the ledger.

    If it is cut off, a file that is there again by the next job is done again.

    Returns:
        Files that are now the first location of a shared point: they must be read again, see
        :mod:`index.upkeep.dropping`.
    """
    ledger.mark_writing(gone)
    files = list(gone)
    files_to_reindex: set[FileKey] = set()
    for start in range(0, len(files), _FORGET_FILES):
        files_to_reindex |= drop_points(index, ledger, ledger.points(files[start : start + _FORGET_FILES]))
    index.flush()
    ledger.forget(gone)
    return files_to_reindex - set(gone)


def delete_points(
    address: Address,
    where: Mapping[str, Collection[str]],
    *,
    may: Callable[[int], bool] = lambda _: True,
    tell: Callable[[str], None] = lambda _: None,
) -> int:
    """Delete every point that matches; a file without any point left counts as left out, and stays out.

    ``cbmir index --retry-left-out``, or a change of the file, brings it back.

    Args:
        address: of the index.
        where: keyword field → values; all fields must agree.
        may: asked with the number of points before any is deleted.
        tell: told of each value that no point has.

    Returns:
        Number of points deleted.

    Raises:
        SettingError: there is no condition, or a field is unknown.
        VectorIndexError: the index cannot be opened or written.
    """
    if not where:
        raise SettingError("--where is missing: name what to delete, as in --where modality=CT")
    check_fields(where)
    with open_index(address, purpose="cbmir delete") as index, _ledger(address, index.description) as ledger:
        ledger.claim(dict(enumerate(index.description.roots)))
        stored, notes = as_stored(index, where)
        for note in notes:
            tell(note)
        condition = Where(must=stored)
        count = index.count(condition)
        if not count or not may(count):
            return 0
        files: defaultdict[FileKey, set[UUID]] = defaultdict(set)
        points = []
        for point, payload in index.scroll(condition):
            points.append(point)
            for location in payload.locations:
                files[_key(location)].add(point)
        index.flush()  # a disk too full for it refuses here, before anything is deleted
        # Before the points: what is cut off here is found again by the same call.
        ledger.leave_out(files, Reason.DELETED.value, "by 'cbmir delete'")
        for start in range(0, len(points), _DELETE_POINTS):
            index.delete(points[start : start + _DELETE_POINTS])
        index.flush()
        ledger.drop_points(files)
    return len(points)


def forget_archives(
    address: Address, archives: Sequence[str], *, may: Callable[[Mapping[str, int]], bool] = lambda _: True
) -> int:
    """Delete what an index has of folders, files or archive files, which need not exist any more.

    Unlike :func:`delete_points` it keeps nothing out: a later job that finds the files takes them up as new ones.

    Args:
        address: of the index.
        archives: addresses of indexed folders and files, or of parts of them; a zip or tar file only as a whole. Roots
            of the index that lie below one of them are forgotten, too.
        may: asked with the number of files by root, or by part of it, before any is deleted.

    Returns:
        Number of files forgotten.

    Raises:
        SettingError: nothing of one of them is indexed, or ``--reembed`` is unfinished.
        VectorIndexError: the index cannot be opened or written.
    """
    folder = address.home
    if (unfinished := folder.with_name(folder.name + BUILDING)).exists():
        raise SettingError(f"{unfinished} is left from an unfinished --reembed: finish it first, or delete it")
    with open_index(address, purpose="cbmir delete") as index, _ledger(address, index.description) as ledger:
        ledger.claim(dict(enumerate(index.description.roots)))
        if not ledger.counts():
            rebuild_ledger(index, ledger)
        found: dict[str, list[FileKey]] = {}
        for archive in archives:
            require_utf8_address(archive)
            files = _files_of(archive, index.description, folder, ledger)
            if not files:
                roots = ", ".join(index.description.roots) or "none"
                raise SettingError(f"nothing of {archive} is indexed; roots of the index: {roots}")
            found |= files
        if not may({name: len(keys) for name, keys in found.items()}):
            return 0
        gone = {key for keys in found.values() for key in keys}
        index.flush()  # a disk too full for it refuses here, before anything is deleted
        forget_files(index, ledger, gone)
    return len(gone)


def _files_of(archive: str, description: Description, folder: Path, ledger: Ledger) -> dict[str, list[FileKey]]:
    """The known files of what is named, by root or by part of it."""
    found = {}
    for part in parts_of(description.roots, archive):
        below = part.below
        if below and description.path_privacy == "hash":
            below = path_hider(require_privacy_key(folder))(below)
        if keys := list(_known_files(replace(part, below=below), ledger)):
            found[part.start] = keys
    return found


def _known_files(part: Root, ledger: Ledger) -> Iterator[FileKey]:
    """The files of a part of a root, which may be one file."""
    for directory in ledger.directories(part.number):
        if part.covers(directory):
            yield from (FileKey(part.number, directory, name) for name in ledger.directory(part.number, directory))
    directory, _, name = part.below.rpartition("/")
    if name and name in ledger.directory(part.number, directory):
        yield FileKey(part.number, directory, name)


def _key(location: Location) -> FileKey:
    directory, _, name = location.path.rpartition("/")
    return FileKey(location.root, directory, name)


@contextmanager
def _ledger(address: Address, description: Description) -> Iterator[Ledger]:
    ledger = open_ledger(address, purpose="cbmir delete", hides_paths=description.path_privacy == "hash")
    try:
        yield ledger
    finally:
        ledger.close()
