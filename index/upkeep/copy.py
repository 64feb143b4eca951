"""Moving an index between engines, with its ledger: no embedding is computed again."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice, zip_longest
from pathlib import Path
from uuid import UUID

import numpy as np

from index.address import Address
from index.engines.engine import Index
from index.engines.layout import DEFAULT_LAYOUT, Layout
from index.home.key import KEY_NAME
from index.home.unfinished import MARKER, source_of
from index.ledger import NAME as LEDGER
from index.ledger import Ledger
from index.ledgers import open_ledger, reading_ledger
from index.opening import create_index, open_index
from index.schema import Point
from index.upkeep.rebuilding import Rebuilt, rebuild_ledger
from model.errors import SettingError, VectorIndexError
from model.files import written_whole

REPORTS = "reports"

_BATCH = 512
_VERIFIED_VECTORS = 1_000


@dataclass(frozen=True, slots=True)
class CopyResult:
    """What a copy did.

    Attributes:
        points: of both indexes.
        moved: how many of them this call moved.
        vectors_compared: one by one.
        rebuilt: where no ledger came along, what was made of the points instead.
    """

    points: int
    moved: int
    vectors_compared: int
    rebuilt: Rebuilt | None


def copy_index(
    source: Address,
    target: Address,
    *,
    layout: Layout = DEFAULT_LAYOUT,
    progress: Callable[[str, int, int], None] | None = None,
    name: str = "",
) -> CopyResult:
    """Copy every point of ``source`` into ``target``, a new index, then its ledger, reports and privacy key; verify it.

    An interrupted copy is continued by the same call. Nothing is taken from the source.

    Args:
        source: address of the index to copy.
        target: address of the new index; nothing may be there, or an unfinished copy of the same source.
        layout: of a new collection of a server.
        progress: told the stage, how many points are done, and of how many.
        name: of what is copied, by which the same call is known again; by default the source's address.

    Raises:
        SettingError: source and target are the same, or the target holds something else.
        VectorIndexError: an index cannot be read or written, or the copy is not like its source.
        ModelMismatchError: the target was made by another model.
    """
    if source == target:
        raise SettingError(f"{source} cannot be copied onto itself: name another target")
    tell = progress or (lambda _stage, _done, _total: None)
    if target.server and not (target.home / MARKER).exists():
        _refuse_earlier_ledger(target)
    with (
        open_index(source, purpose="cbmir copy", only_reads=True) as taken,
        create_index(target, taken.description, purpose="cbmir copy", layout=layout, patient=False) as made,
    ):
        marker = _Marker(target.home / MARKER, name or str(source))
        done = marker.begin(made)
        made.update_description(roots=taken.description.roots, model_path=taken.description.model_path)
        with reading_ledger(source) as found:
            has_ledger = found is not None  # of a server's now: it must not know more than the points that follow
        total, moved = taken.count(), 0
        already = made.count() if done else 0
        for batch in _batches(taken.points(done)):
            made.upsert(batch)
            made.flush()
            marker.advance(batch[-1].id)
            moved += len(batch)
            tell("copying", already + moved, total)
        tell("building the vector index", total, total)
        made.optimize()
        compared = _verify(taken, made, total, tell)
        rebuilt = _copy_ledger(source, target, made, has_ledger=has_ledger)
        marker.remove()
    return CopyResult(total, moved, compared, rebuilt)


def _refuse_earlier_ledger(target: Address) -> None:
    """Refuse a collection's name whose ledger lists files of an earlier index.

    Raises:
        SettingError: it does.
    """
    assert target.server
    with reading_ledger(target) as ledger:
        known = sum(ledger.counts().values()) if ledger else 0
    if known:
        raise SettingError(
            f"{target} has the ledger of an earlier index, with {known:,} files: delete the collection "
            f"{target.server.collection}-ledger and {target.home}, or name another target"
        )


class _Marker:
    def __init__(self, path: Path, source: str) -> None:
        self._path, self._source = path, source

    def begin(self, target: Index) -> UUID | None:
        """The last point that an interrupted copy has confirmed, ``None`` for a new one."""
        if not self._path.exists():
            if held := target.count():
                raise SettingError(f"the target of the copy holds {held:,} points already: name a new one")
            if (ledger := self._path.with_name(LEDGER)).exists():
                raise SettingError(f"{ledger} is that of an earlier index: delete its folder, or name another target")
            self._write(None)
            return None
        if (source := source_of(self._path)) != self._source:
            raise SettingError(f"the target holds an unfinished copy of {source}, not of {self._source}")
        last = json.loads(self._path.read_text())["last"]
        return UUID(last) if last else None

    def advance(self, last: UUID) -> None:
        """Every point up to this one is stored."""
        self._write(last)

    def remove(self) -> None:
        """The copy is complete."""
        self._path.unlink()

    def _write(self, last: UUID | None) -> None:
        try:
            with written_whole(self._path) as partial:
                partial.write_text(json.dumps({"source": self._source, "last": str(last) if last else None}))
        except OSError as error:
            raise VectorIndexError(f"{self._path} cannot be written: {error.strerror or error}") from error


def _batches(points: Iterator[Point]) -> Iterator[list[Point]]:
    while batch := list(islice(points, _BATCH)):
        yield batch


def _verify(source: Index, target: Index, total: int, tell: Callable[[str, int, int], None]) -> int:
    """Compare every id and payload, and vectors of points spread evenly; return how many vectors were compared."""
    step, compared = max(1, total // _VERIFIED_VECTORS), 0
    for number, (ours, theirs) in enumerate(zip_longest(source.scroll(), target.scroll())):
        if ours != theirs or ours is None:
            where = (ours or theirs or ("?",))[0]
            raise VectorIndexError(f"the copy differs from its source at point {where}: delete it and copy again")
        if number % step == 0:
            for layer in source.description.layers:
                if not np.array_equal(source.vector(ours[0], layer), target.vector(ours[0], layer)):
                    raise VectorIndexError(f"the copy's {layer} of point {ours[0]} differs: delete it and copy again")
                compared += 1
        if number % _BATCH == 0:
            tell("verifying", number, total)
    tell("verifying", total, total)
    return compared


def _copy_ledger(source: Address, target: Address, made: Index, *, has_ledger: bool) -> Rebuilt | None:
    """Bring the ledger along, or make one of the points."""
    copy_ledger(source.home, target.home)
    hides_paths = made.description.path_privacy == "hash"
    ledger = open_ledger(target, purpose="cbmir copy", hides_paths=hides_paths)  # which tells a server of all of it
    try:
        return None if has_ledger else rebuild_ledger(made, ledger)
    finally:
        ledger.close()


def copy_ledger(source: Path, target: Path) -> bool:
    """Copy ledger, reports and privacy key from one index's home to another's; return whether there was a ledger."""
    if (source / LEDGER).exists():
        ledger = Ledger(source, read_only=True)
        try:
            ledger.copy_to(target)
        finally:
            ledger.close()
    if (source / KEY_NAME).exists():
        with written_whole(target / KEY_NAME, private=True) as partial:
            partial.write_bytes((source / KEY_NAME).read_bytes())
    if (source / REPORTS).is_dir():
        shutil.copytree(source / REPORTS, target / REPORTS, dirs_exist_ok=True)
    return (source / LEDGER).exists()
