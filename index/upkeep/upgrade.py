"""Bringing an index of an earlier version up to date by the headers of its files: no pixel is decoded."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from uuid import UUID

from index.address import Address
from index.engines.engine import Index
from index.ledger import FileKey
from index.ledgers import reading_ledger
from index.opening import open_index
from index.schema import Location
from model.errors import ImageError, SettingError
from model.images.frames import Header
from model.images.reading import read_headers
from model.images.sources import join

_FILES = 256

PLACED = ("view", "localizer", "stack", "slice_mm")
"""Fields of a payload that a header says, and that indexes made before version 0.2 lack."""


@dataclass(slots=True)
class Upgraded:
    """What an upgrade did.

    Attributes:
        points: of which something was added.
        files: whose headers were read.
        left_out: files that cannot be read any more; their points stay as they are.
    """

    points: int = 0
    files: int = 0
    left_out: list[ImageError] = field(default_factory=list)


def upgrade_index(address: Address, *, progress: Callable[[int, int], None] = lambda _done, _all: None) -> Upgraded:
    """Add to every point what the header of its file says of the view and place of the slice.

    Points that have it are passed over, so that an upgrade that was cut off goes on.

    Args:
        address: of the index.
        progress: told how many of how many files are done.

    Raises:
        SettingError: the index hides its paths, so that the files cannot be found by it.
        VectorIndexError: the index cannot be opened or written.
    """
    done = Upgraded()
    with open_index(address, purpose="cbmir upgrade") as index, reading_ledger(address) as ledger:
        if index.description.path_privacy == "hash":
            raise SettingError(
                f"{address} hides the paths of its files: 'cbmir index --reembed' is the way to bring it up to date"
            )
        index.index_keywords()
        keys = sorted(ledger.keys("indexed"), key=str) if ledger else []
        for start in range(0, len(keys), _FILES):
            assert ledger is not None
            for key, ids in ledger.points(keys[start : start + _FILES]).items():
                _upgrade_file(index, key, ids, done)
            progress(min(start + _FILES, len(keys)), len(keys))
        index.flush()
    return done


def _upgrade_file(index: Index, key: FileKey, ids: Sequence[UUID], done: Upgraded) -> None:
    """Add to the points of a file what its header says, if it was not read for that yet."""
    location = Location(key.root, key.path)
    lacking = {
        point: payload
        for point, payload in index.retrieve(ids).items()
        if payload.locations[0] == location
        and payload.header.sop_instance_uid  # what is not DICOM says nothing of its place
        and all(getattr(payload.header, name) is None for name in PLACED)
    }
    if not lacking:
        return
    try:
        headers = dict(read_headers(join(index.description.roots[key.root], key.path)))
    except ImageError as error:
        done.left_out.append(error)
        return
    done.files += 1
    for point, payload in lacking.items():
        said = headers.get(payload.frame, Header())
        placed = replace(payload.header, **{name: getattr(said, name) for name in PLACED})
        if placed != payload.header:
            index.set_payload(point, replace(payload, header=placed))
            done.points += 1
