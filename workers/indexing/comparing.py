"""What an index that was made anew lacks of the old one, and what must not come back in it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from index.address import Address
from index.home.description import read_description
from index.ledger import FileKey, Known, Ledger, State
from index.opening import open_index
from index.roots import below
from index.schema import Description
from model.errors import Reason
from model.images.sources import join

INDEXED_STATES: Final[tuple[State, ...]] = ("indexed", "writing")
"""States of files that an index has, the second to be done again: half written, or left the points
of a copy."""


class Records:
    """What one of two indexes that are compared says of its files: its description and its ledger."""

    def __init__(self, folder: Path, *, read_only: bool = True) -> None:
        self.description: Description = read_description(folder, any_version=True)
        self.ledger = Ledger(folder, read_only=read_only)
        self._at: tuple[int, str] | None = None
        self._known: dict[str, Known] = {}

    def key(self, address: str) -> FileKey | None:
        """The file at an address, by the deepest root that holds it; ``None`` if none does."""
        holders = [
            (len(root), number, path)
            for number, root in enumerate(self.description.roots)
            if (path := below(address, root)) is not None
        ]
        if not holders:
            return None
        _, number, path = max(holders)
        directory, _, name = path.rpartition("/")
        return FileKey(number, directory, name)

    def known(self, key: FileKey) -> Known | None:
        """What the ledger says of a file; files of one directory are best asked for one after the other."""
        if self._at != (key.root, key.directory):
            self._at, self._known = (key.root, key.directory), self.ledger.directory(key.root, key.directory)
        return self._known.get(key.name)

    def addresses(self, state: str, reason: str | None = None) -> Iterator[tuple[str, FileKey]]:
        """The files of a state, with their addresses."""
        for key in self.ledger.keys(state, reason):
            yield join(self.description.roots[key.root], key.path), key


@contextmanager
def open_records(folder: Path, *, read_only: bool = True) -> Iterator[Records]:
    """The records of the index in a folder, the ledger open until the context ends."""
    opened = Records(folder, read_only=read_only)
    try:
        yield opened
    finally:
        opened.ledger.close()


@dataclass(slots=True)
class Lacking:
    """What a new index lacks of a root of the old one.

    Attributes:
        files: that the old index has and the new one has not.
        is_empty: whether the new one has met no file at all below the root: perhaps it is not mounted.
    """

    files: int = 0
    is_empty: bool = True


def find_lacking(old: Records, new: Records) -> dict[str, Lacking]:
    """What the new index lacks, by the roots of the old one of which it lacks something.

    Where paths are hashed, each index with a key of its own, files cannot be told: then those of each root are counted.
    """
    hashed = "hash" in {old.description.path_privacy, new.description.path_privacy}
    lacking = _by_counts(old, new) if hashed else _by_address(old, new)
    return {root: one for root, one in lacking.items() if one.files}


def _by_counts(old: Records, new: Records) -> dict[str, Lacking]:
    numbers = {root: number for number, root in enumerate(new.description.roots)}
    found = {}
    for number, root in enumerate(old.description.roots):
        there = new.ledger.counts(numbers[root]) if root in numbers else {}
        had = sum(old.ledger.counts(number).get(state, 0) for state in INDEXED_STATES)
        found[root] = Lacking(max(0, had - there.get("indexed", 0)), not there)
    return found


def _by_address(old: Records, new: Records) -> dict[str, Lacking]:
    found = {root: Lacking() for root in old.description.roots}
    for state in INDEXED_STATES:
        for address, old_key in old.addresses(state):
            of_root = found[old.description.roots[old_key.root]]
            key = new.key(address)
            known = new.known(key) if key else None
            of_root.files += known is None or known.state != "indexed"
            of_root.is_empty &= known is None
    return found


def keep_deleted(old_folder: Path, new_folder: Path) -> None:
    """Take out of a new index what a user deleted from the old one, unless the file has changed since.

    A call that was cut off is finished by the next: until a file's points are out of the index, the ledger has them.
    """
    with open_records(old_folder) as old, open_records(new_folder, read_only=False) as new:
        unchanged = []
        for address, old_key in old.addresses("left out", Reason.DELETED.value):
            key, before = new.key(address), old.known(old_key)
            known = new.known(key) if key else None
            if key and known and before and known.stamp == before.stamp:
                unchanged.append(key)
        points = {key: ids for key, ids in new.ledger.points(unchanged).items() if ids}
        if not points:
            return
        from index.upkeep.dropping import drop_points  # pyarrow, which a job with nothing to do can spare

        with open_index(Address(new_folder), purpose="cbmir index --reembed") as index:
            new.ledger.leave_out(points, Reason.DELETED.value, "by 'cbmir delete'")
            drop_points(index, new.ledger, points)
            index.flush()
            new.ledger.drop_points(points)
