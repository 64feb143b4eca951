"""Removal of points: those of files that are gone, and those that a user wants out."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from uuid import UUID

from index.address import home
from index.interface import Index, Where
from index.opening import open_index
from index.schema import KEYWORDS, Location
from model.errors import Reason, SettingError
from workers.ledger import NAME, FileKey, Ledger
from workers.sink import drop_points

_DELETE_POINTS = 1024


def forget_files(index: Index, ledger: Ledger, gone: Collection[FileKey]) -> None:
    """Remove the points of files that are gone, and the files from the ledger.

    If it is cut off, a file that is there again by the next job is done again.
    """
    ledger.reopen(gone)
    for key, points in ledger.points(gone).items():
        drop_points(index, ledger, key, points)
    index.flush()
    ledger.forget(gone)


def delete_points(
    address: str | Path, where: Mapping[str, Collection[str]], *, may: Callable[[int], bool] = lambda _: True
) -> int:
    """Delete every point that matches; a file without any point left counts as left out, and stays out.

    ``cbmir index --retry-left-out``, or a change of the file, brings it back.

    Args:
        address: folder of the index, or a server's collection.
        where: keyword field → values; all fields must agree.
        may: asked with the number of points before any is deleted.

    Returns:
        Number of points deleted.

    Raises:
        SettingError: there is no condition, or a field is unknown.
        VectorIndexError: the index cannot be opened or written.
    """
    if not where:
        raise SettingError("--where is missing: name what to delete, as in --where modality=CT")
    if unknown := [name for name in where if name not in KEYWORDS]:
        raise SettingError(f"there is no field {unknown[0]!r} to delete by: choose among {', '.join(KEYWORDS)}")
    with open_index(address, purpose="cbmir delete") as index:
        condition = Where(must=where)
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
        with _ledger(home(address)) as ledger:
            # Before the points: what is cut off here is found again by the same call.
            if ledger:
                ledger.leave_out(files, Reason.DELETED.value, "by 'cbmir delete'")
            for start in range(0, len(points), _DELETE_POINTS):
                index.delete(points[start : start + _DELETE_POINTS])
            index.flush()
            if ledger:
                ledger.drop_points(files)
    return len(points)


def _key(location: Location) -> FileKey:
    directory, _, name = location.path.rpartition("/")
    return FileKey(location.root, directory, name)


@contextmanager
def _ledger(folder: Path) -> Iterator[Ledger | None]:
    """The ledger, if there is one: a server's index may have been made elsewhere."""
    if not (folder / NAME).exists():
        yield None
        return
    ledger = Ledger(folder)
    try:
        yield ledger
    finally:
        ledger.close()
