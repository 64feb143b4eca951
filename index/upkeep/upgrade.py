"""Bringing an index of an earlier version up to date by the headers of its files: no pixel is decoded."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from itertools import islice
from uuid import UUID

from index.address import Address
from index.engines.engine import Index
from index.ledger import FileKey, Ledger
from index.ledgers import open_ledger
from index.opening import open_index
from index.schema import Location
from index.upkeep.rebuilding import rebuild_ledger
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
        left_out: how many cannot be read any more, or hold another picture now; their points stay as they are.
    """

    points: int = 0
    files: int = 0
    left_out: int = 0


def upgrade_index(
    address: Address,
    *,
    progress: Callable[[int, int], None] = lambda _done, _all: None,
    left_out: Callable[[str], None] = lambda _: None,
) -> Upgraded:
    """Add to every point what the header of its file says of the view and place of the slice.

    Points that have it are passed over, so that an upgrade that was cut off goes on.

    Args:
        address: of the index.
        progress: told how many of how many files are done.
        left_out: told of each file that cannot be read any more, or holds another picture now.

    Raises:
        SettingError: the index hides its paths, so that the files cannot be found by it.
        VectorIndexError: the index cannot be opened or written, or a job works at it.
    """
    done = Upgraded()
    with open_index(address, purpose="cbmir upgrade") as index, closing(_ledger(address)) as ledger:
        if index.description.path_privacy == "hash":
            raise SettingError(
                f"{address} hides the paths of its files: 'cbmir index --reembed' is the way to bring it up to date"
            )
        ledger.claim(dict(enumerate(index.description.roots)))
        if not ledger.counts():
            rebuild_ledger(index, ledger)
        index.index_keywords()
        total, looked_at = ledger.counts().get("indexed", 0), 0
        files = _indexed(ledger, len(index.description.roots))
        while keys := list(islice(files, _FILES)):
            for key, ids in ledger.points(keys).items():
                _upgrade_file(index, key, ids, done, left_out)
            looked_at += len(keys)
            progress(looked_at, total)
        index.flush()
    return done


def _ledger(address: Address) -> Ledger:
    return open_ledger(address, purpose="cbmir upgrade")


def _indexed(ledger: Ledger, roots: int) -> Iterator[FileKey]:
    """The files that have points, directory by directory."""
    for root in range(roots):
        for directory in sorted(ledger.directories(root)):
            for name, known in ledger.directory(root, directory).items():
                if known.state == "indexed":
                    yield FileKey(root, directory, name)


def _upgrade_file(
    index: Index, key: FileKey, ids: Sequence[UUID], done: Upgraded, left_out: Callable[[str], None]
) -> None:
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
    address = join(index.description.roots[key.root], key.path)
    try:
        headers = dict(read_headers(address))
    except ImageError as error:
        done.left_out += 1
        left_out(str(error))
        return
    done.files += 1
    for point, payload in lacking.items():
        said = headers.get(payload.frame, Header())
        if said.sop_instance_uid != payload.header.sop_instance_uid:
            done.left_out += 1
            left_out(f"{address} holds another picture than the one that was indexed: run 'cbmir index' first")
            return
        placed = replace(payload.header, **{name: getattr(said, name) for name in PLACED})
        if placed != payload.header:
            index.set_payload(point, replace(payload, header=placed))
            done.points += 1
