"""An archive that lies elsewhere now: its files are recognised, and no picture of it is embedded again."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from index.home.key import privacy_key
from index.ledger import FileKey, Ledger
from index.roots import Archive, Root, below
from index.schema import frame_point_id
from model.errors import ImageError, JobError, SettingError
from model.files import absolute
from model.images.frames import Frame
from model.images.reading import ReadOptions, read_each_frame
from model.images.sources import is_local, join
from workers.indexing.discovery import discover
from workers.indexing.preparing import hider
from workers.indexing.settings import JobSettings

COMPARED_FILES = 20
"""Files, taken at random, that are read and compared: the hash of their pixels is in the ids of their points."""

LEAST_SHARE = 0.5
"""Of the files that the index knows, so many must be there with the same size and time."""


@dataclass(frozen=True, slots=True)
class Move:
    """What ``--moved-from`` found.

    Attributes:
        number: of the root that gets a new address; ``None`` if an earlier call has given it already.
        old, new: addresses.
        files: known files that are there, with the same size and time.
    """

    number: int | None
    old: str
    new: str
    files: int

    def roots(self, roots: Sequence[str]) -> tuple[str, ...]:
        """The index's roots after the move."""
        return tuple(self.new if number == self.number else root for number, root in enumerate(roots))


def find_move(settings: JobSettings, archives: Sequence[Archive], roots: Sequence[str], ledger: Ledger | None) -> Move:
    """See that the one archive of a job is an indexed one that was moved; nothing is written.

    Its files are compared by path, size and time with what the ledger knows, and some of them by their pixels.

    Raises:
        SettingError: it is not one whole archive, the old one is not of this index, or still has files.
        JobError: too few files are the same, or one that should be is another picture.
    """
    assert settings.moved_from
    old = absolute(settings.moved_from) if is_local(settings.moved_from) else settings.moved_from.rstrip("/")
    if settings.limit is not None:
        raise SettingError("--moved-from and --limit exclude each other: every file is looked for")
    if len(archives) != 1 or archives[0].members is not None:
        raise SettingError(f"--moved-from {old} needs one ARCHIVE, a whole folder or archive file: where it lies now")
    new = archives[0].address
    number = _number(old, new, roots)
    if number is None or ledger is None:
        return Move(None, old, new, 0)
    if still := next(_files(Root(number, roots[number])), None):
        raise SettingError(
            f"--moved-from {old}: {still} is still there, so that {new} is a copy of it, not its new place"
        )
    known = sum(ledger.counts(number).values())
    same, sample = _recognised(settings, Root(number, new), ledger)
    if not same or same < known * LEAST_SHARE:
        raise JobError(
            f"{new} has only {same:,} of the {known:,} files of {old} with the same path, size and time: it is another "
            "archive, or its files lost their times on the way; index it without --moved-from"
        )
    _compare(settings, sample, new, ledger)
    return Move(number, old, new, same)


def _number(old: str, new: str, roots: Sequence[str]) -> int | None:
    """The number of the old archive's root; ``None`` if it lies under the new address already."""
    named = [
        number
        for number, root in enumerate(roots)
        if old in {root, root if is_local(root) else root.rpartition("::")[2]}
    ]
    if not named:
        if new in roots:
            return None
        listed = ", ".join(roots) or "none"
        raise SettingError(f"--moved-from {old} is no archive of this index: it has {listed}")
    for number, root in enumerate(roots):
        if number != named[0] and (below(new, root) is not None or below(root, new) is not None):
            raise SettingError(f"--moved-from {old}: {new} has to do with {root}, which is indexed already")
    if roots[named[0]] == new:
        raise SettingError(f"--moved-from {old}: that is where the archive lies already")
    return named[0]


def _files(root: Root) -> Iterator[str]:
    """Files that lie below a root now."""
    for directory in discover(root):
        for file in directory.files:
            yield join(root.address, f"{directory.path}/{file.name}" if directory.path else file.name)


def _recognised(settings: JobSettings, root: Root, ledger: Ledger) -> tuple[int, dict[FileKey, str]]:
    """How many known files lie below the new address as they lay below the old one, and the addresses of some."""
    hide, chance = hider(settings), random.Random(0)  # noqa: S311 (a sample, no secret)
    same = 0
    sample: list[tuple[FileKey, str]] = []
    for directory in discover(root):
        stored = hide(directory.path)
        known = ledger.directory(root.number, stored)
        for file in directory.files:
            before = known.get(hide(file.name))
            if before is None or before.stamp != (file.size, file.mtime_ns):
                continue
            same += 1
            path = f"{directory.path}/{file.name}" if directory.path else file.name
            found = (FileKey(root.number, stored, hide(file.name)), join(root.address, path))
            if len(sample) < COMPARED_FILES:  # of a stream of unknown length each has the same chance
                sample.append(found)
            elif (place := chance.randrange(same)) < COMPARED_FILES:
                sample[place] = found
    return same, dict(sample)


def _compare(settings: JobSettings, sample: Mapping[FileKey, str], new: str, ledger: Ledger) -> None:
    """Read some of the files, and see that they are the pictures that the index has."""
    points = {key: ids for key, ids in ledger.points(sample).items() if ids}
    options = ReadOptions(privacy_key(settings.index.home) if settings.privacy.keep_patient_group else None)
    for key, ids in points.items():
        address = sample[key]
        try:
            frames = read_each_frame(address, options=options)
            found = {frame_point_id(frame) for frame in frames if isinstance(frame, Frame)}
        except ImageError as error:
            raise JobError(f"{error}: {new} is not the archive as it was indexed") from error
        if found != set(ids):
            raise JobError(
                f"{address} shows another picture than the index has of it: {new} is not the archive as it was indexed"
            )
