"""The sink: rows of the pipeline become points of the index, and the ledger learns which files are done."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple
from uuid import UUID

import pyarrow as pa
from ray.exceptions import RayError

from index.engines.engine import Index, Where
from index.ledger import FileKey, FileRecord, Ledger, State
from index.schema import Location, Payload, Stamp, point_id
from index.upkeep.dropping import drop_points
from model.errors import Reason
from model.images.frames import Header
from model.modalities import contradicts
from model.network.calibration import UNKNOWN
from workers.indexing.planning import PendingFile
from workers.indexing.report import TRANSIENT
from workers.indexing.storing import Arrived, Storing, StoringHere

UPSERT_POINTS = 256
"""Points sent to the index at once: 2 MB a layer."""

MAX_DETAILS = 20
"""Kinds of fault told apart among the frames of one file."""

COMMIT_SECONDS = 5.0
"""Time between flushes of the index, after each of which the ledger calls its files done."""

LeftOut = Callable[[PendingFile, str, str, str | None], None]
"""Told of a file that was left out, the reason and the detail, and of which frames if it was not the whole."""


@dataclass(slots=True)
class SinkCounts:
    """What a job's sinks did so far.

    Attributes:
        files: files indexed.
        points: points sent, ``copies`` of them already there from another file.
        seconds: time spent.
        repeated_uids: SOP Instance UIDs that the archive gives to different pictures.
        files_to_reindex: files that became the first location of a shared point, as another file has changed; they must
            be read again, as the point still has the other file's header.
    """

    files: int = 0
    points: int = 0
    copies: int = 0
    seconds: float = 0.0
    repeated_uids: set[str] = field(default_factory=set)
    files_to_reindex: set[FileKey] = field(default_factory=set)


class _Row(NamedTuple):
    """What a table says of a frame, or of a file that was left out (see :mod:`workers.indexing.rows`)."""

    file: int
    frame: int
    of: int
    identity: str
    reason: str | None
    detail: str | None
    best_guess: int | None
    organ_probability: float | None
    known: bool | None
    header: Header


_HEADER = tuple(Header.__dataclass_fields__)


@dataclass(slots=True)
class _Arriving:
    """A file whose rows arrive.

    Attributes:
        file: which.
        points: of its good frames so far, by frame.
        waiting: those of the frames that are not sent yet.
        broken: reason and detail of its broken frames so far; by frame, 0 of the whole file.
        of: number of rows that it has in all, once they are there.
        before: points that it may have had in the index before; ``None`` until that is looked up.
        noted: all points that the ledger has for it.
        sent: whether some of its frames were.
    """

    file: PendingFile
    points: dict[int, UUID] = field(default_factory=dict)
    waiting: dict[int, Arrived] = field(default_factory=dict)
    broken: dict[int, tuple[str, str]] = field(default_factory=dict)
    of: int | None = None
    before: tuple[UUID, ...] | None = None
    noted: set[UUID] = field(default_factory=set)
    sent: bool = False

    @property
    def left_out(self) -> tuple[str, str] | None:
        """Why the whole file is left out, if it is and all is known of it."""
        return None if self.of is None or self.points else self.broken[min(self.broken)]

    @property
    def is_tried_again(self) -> bool:
        """Whether it is left out for now only: what is stored of it stays, and the next job tries again."""
        reason = self.left_out and self.left_out[0]
        return reason == Reason.UNREACHABLE.value or (reason in TRANSIENT and bool(self.before))

    @property
    def former(self) -> set[UUID]:
        """Points that the index may have of it, and that are none of it any more."""
        return self.noted - set(self.points.values())

    def record(self, state: State | None = None) -> FileRecord:
        """What the ledger is told: all points that it may have, or in the end those that it has."""
        points = tuple(self.points[frame] for frame in sorted(self.points))
        reason = detail = None
        if state == "writing":
            points = tuple(dict.fromkeys([*points, *self.noted]))
        elif self.broken:
            frames = _alike(self.broken)
            (reason, detail), first = next(iter(frames.items()))
            if self.points:
                detail = f"frame {_ranges(first)} of {self.of}: {detail}"
        state = state or ("indexed" if points else "left out")
        file = self.file
        return FileRecord(file.key, file.size, file.mtime_ns, state, file.label, points, reason, detail)


class Sink:
    """Takes the tables of one window in any order.

    Frames are stored as they come. Before they are sent the ledger notes their points beside those that their file had
    before; once all frames of a file are stored and the index has flushed them, the ledger calls it done. So a job that
    dies anywhere leaves nothing that the next one would not find and mend.

    Attributes:
        accounted: numbers of the window's files of which everything is known; after a failure without those that
            perhaps are not stored.
    """

    def __init__(
        self,
        index: Index,
        ledger: Ledger,
        window: Sequence[PendingFile],
        left_out: LeftOut,
        counts: SinkCounts,
        storing: Storing | None = None,
    ) -> None:
        self._index, self._ledger, self._window = index, ledger, window
        self._storing = storing or StoringHere(index)
        self._left_out, self._counts = left_out, counts
        self._arriving: dict[int, _Arriving] = {}
        self._touched: dict[int, _Arriving] = {}
        self._waiting = 0
        self._uncommitted: dict[int, _Arriving] = {}
        self._committed_at = time.monotonic()
        self.accounted: set[int] = set()

    def take(self, table: pa.Table) -> None:
        """Add the rows of a table; store its frames, perhaps with those of the next ones."""
        started = time.perf_counter()
        features = self._storing.take(table)
        headers = map(Header, *(table[name].to_pylist() for name in _HEADER))
        columns = (table[name].to_pylist() for name in _Row._fields[:-1])
        for place, values in enumerate(zip(*columns, headers, strict=True)):
            self._take(_Row(*values), features, place)
        if self._waiting >= UPSERT_POINTS:
            self._store()
        if time.monotonic() - self._committed_at > COMMIT_SECONDS:
            self.commit()
            self._index.keep_up()  # not in every commit: nobody who stops a job waits for it
        self._counts.seconds += time.perf_counter() - started

    def commit(self) -> None:
        """Store what has arrived, drop what is no longer any file's, flush the index, and call the files done."""
        try:
            self._store()
            self._storing.wait()
        except Exception as error:
            self._count_back()
            if isinstance(error, RayError):
                self._call_done()
            raise
        self._call_done()
        self._committed_at = time.monotonic()

    def _call_done(self) -> None:
        """Finish the files that have nothing more to be stored."""
        if self._uncommitted:
            done = self._uncommitted.values()
            files_to_reindex = drop_points(self._index, self._ledger, {one.file.key: one.former for one in done})
            self._counts.files_to_reindex |= files_to_reindex
            self._index.flush()
            records = [one.record() for one in done]
            self._ledger.put([replace(one, state="writing") if one.key in files_to_reindex else one for one in records])
            for one in done:
                self._say_broken_frames(one)
            self._uncommitted = {}

    def _take(self, row: _Row, features: Any, place: int) -> None:
        if row.file in self.accounted:
            return  # a task that was lost and run again brings a file twice
        one = self._arriving.get(row.file)
        if one is None:
            one = self._arriving[row.file] = _Arriving(self._window[row.file])
        self._touched[row.file] = one
        if row.frame == 0:  # the whole file, whatever came of it before its task was lost
            one.points.clear()
            one.waiting.clear()
        if row.reason:
            one.points.pop(row.frame, None)
            one.waiting.pop(row.frame, None)
            one.broken[row.frame] = row.reason, row.detail or ""
        else:
            one.broken.pop(row.frame, None)
            point = point_id(row.identity)
            if one.points.get(row.frame) != point:  # it may come twice, too
                one.points[row.frame] = point
                one.waiting[row.frame] = Arrived(point, self._payload(one.file, row), features, place)
                self._waiting += 1
        if row.frame == 0 or len(one.points) + len(one.broken) >= row.of:
            one.of = row.of
            self.accounted.add(row.file)
            del self._arriving[row.file]
            if one.left_out:
                self._left_out(one.file, *one.left_out, None)

    def _payload(self, file: PendingFile, row: _Row) -> Payload:
        guess = None if row.best_guess is None else self._index.description.classes[row.best_guess]
        is_known = row.known and not (guess and contradicts(guess, row.header.modality))
        return Payload(
            organ=UNKNOWN if guess and not is_known else guess,
            best_guess=guess,
            organ_probability=None if guess is None else row.organ_probability,
            label=file.label,
            header=row.header,
            frame=row.frame,
            locations=(Location(file.key.root, file.key.path, Stamp(file.size, file.mtime_ns, row.of)),),
        )

    def _store(self) -> None:
        """Send what has arrived; what an interruption cuts off here is done again by the commit that follows it."""
        touched = self._touched
        self._look_up(touched.values())
        self._note_points([one for one in touched.values() if not one.is_tried_again])
        # Of a file in several tables only the first ones: its own points would be asked for again and again.
        first = {frame.id for one in touched.values() if not one.sent for frame in one.waiting.values()}
        frames = [frame for one in touched.values() for frame in one.waiting.values()]
        doomed = {point for one in touched.values() for point in one.former if not one.is_tried_again}
        self._note_repeated_uids([frame for frame in frames if frame.id in first], doomed)
        self._storing.store(self._merge(frames))
        while touched:
            number, one = touched.popitem()
            one.sent = one.sent or bool(one.waiting)
            one.waiting.clear()
            if one.of is not None and not one.is_tried_again:
                self._uncommitted[number] = one
                self._counts.points += len(one.points)
                self._counts.files += bool(one.points)
        self._waiting = 0

    def _look_up(self, files: Collection[_Arriving]) -> None:
        """Learn from the ledger which points the files had before."""
        known = self._ledger.points(one.file.key for one in files if one.before is None)
        for one in files:
            if one.before is None:
                one.before = known.get(one.file.key, ())
                one.noted.update(one.before)

    def _note_points(self, files: Iterable[_Arriving]) -> None:
        """Tell the ledger which points the index may have of the files from now on, or that there are none."""
        changed = []
        for one in files:
            new = set(one.points.values()) - one.noted
            one.noted |= new
            if new or (one.former and one.of is not None):
                changed.append(one.record("writing"))
            elif one.left_out:
                changed.append(one.record())
        self._ledger.put(changed)

    def _count_back(self) -> None:
        """After a failure: files that are perhaps not stored do not count; those left out can still be called done."""
        self._counts.files -= sum(bool(one.points) for one in self._uncommitted.values())
        self._counts.points -= sum(len(one.points) for one in self._uncommitted.values())
        perhaps_not_stored = self._uncommitted | self._touched
        self.accounted -= {number for number, one in perhaps_not_stored.items() if one.points}
        self._uncommitted = {
            number: one for number, one in perhaps_not_stored.items() if one.left_out and not one.is_tried_again
        }
        self._touched = {}

    def _say_broken_frames(self, one: _Arriving) -> None:
        if one.points:
            for (reason, detail), frames in _alike(one.broken).items():
                self._left_out(one.file, reason, detail, f"{_ranges(frames)} of {one.of}")

    def _merge(self, frames: Sequence[Arrived]) -> list[Arrived]:
        """One frame a point, with the locations of all copies; the least location's file gives the rest of the payload.

        So the payload does not depend on which copy arrives first.
        """
        under_way = self._storing.under_way()
        ids = {frame.id for frame in frames}
        payloads = {point: under_way[point] for point in ids if point in under_way}
        if unknown := ids - payloads.keys():
            payloads |= self._index.retrieve(unknown)
        merged: dict[UUID, Arrived] = {}
        for frame in frames:
            other, payload = payloads.get(frame.id), frame.payload
            if other is not None:
                payload = _merge_payloads(payload, other)
                self._counts.copies += len(payload.locations) > 1
            payloads[frame.id] = payload
            merged[frame.id] = replace(frame, payload=payload)
        return list(merged.values())

    def _note_repeated_uids(self, frames: Sequence[Arrived], doomed: set[UUID]) -> None:
        uids = {uid for frame in frames if (uid := frame.payload.header.sop_instance_uid)}
        uids -= self._counts.repeated_uids  # asked for again, a UID of a whole archive would bring all of its points
        if not uids:
            return
        seen: dict[tuple[str | None, int], UUID] = {}
        stored = self._index.scroll(Where(must={"sop_instance_uid": uids}, exclude_ids=doomed))
        under_way = self._storing.under_way()
        on_their_way = ((point, payload) for point, payload in under_way.items() if point not in doomed)
        for point, payload in [*stored, *on_their_way, *((frame.id, frame.payload) for frame in frames)]:
            uid = payload.header.sop_instance_uid
            if uid in uids and seen.setdefault((uid, payload.frame), point) != point:
                self._counts.repeated_uids.add(str(uid))


def _alike(broken: Mapping[int, tuple[str, str]]) -> dict[tuple[str, str], list[int]]:
    """Reason and detail → frames, of a file's broken ones in order."""
    first: dict[str, str] = {}
    many = len({detail for _, detail in broken.values()}) > MAX_DETAILS  # messages with a number of their frame in them
    found: defaultdict[tuple[str, str], list[int]] = defaultdict(list)
    for frame in sorted(broken):
        reason, detail = broken[frame]
        found[reason, first.setdefault(reason, detail) if many else detail].append(frame)
    return found


def _ranges(numbers: Sequence[int]) -> str:
    """Ascending numbers in short: ``3, 7-9``."""
    parts: list[list[int]] = []
    for number in numbers:
        if parts and number == parts[-1][-1] + 1:
            parts[-1][1:] = [number]
        else:
            parts.append([number])
    return ", ".join("-".join(map(str, part)) for part in parts)


def _merge_payloads(one: Payload, other: Payload) -> Payload:
    locations = tuple(sorted({*one.locations, *other.locations}))
    primary = one if one.locations[0] == locations[0] else other
    return replace(primary, locations=locations)
