"""The sink: rows of the pipeline become points of the index, and the ledger learns which files are done."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any
from uuid import UUID

import numpy as np
import pyarrow as pa

from index.engines.engine import Index, Where
from index.ledger import FileKey, FileRecord, Ledger, State
from index.schema import Location, Payload, Point, Stamp, point_id
from index.upkeep.dropping import drop_points
from model.errors import Reason
from model.images.frames import Header
from model.network.calibration import UNKNOWN
from workers.indexing.planning import PendingFile
from workers.indexing.report import TRANSIENT
from workers.indexing.rows import FEATURE
from workers.indexing.storing import Storing

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


@dataclass(frozen=True, slots=True)
class _Complete:
    """A file of which every row has arrived: its points, or why it is left out, or why some of its frames are."""

    file: PendingFile
    points: tuple[Point, ...]
    reason: str | None = None
    detail: str | None = None
    former: tuple[UUID, ...] = ()
    """Points that an earlier version of the file has in the index, and this one has not."""

    def record(self) -> FileRecord:
        state: State = "indexed" if self.points else "left out"
        ids = tuple(point.id for point in self.points)
        file = self.file
        return FileRecord(file.key, file.size, file.mtime_ns, state, file.label, ids, self.reason, self.detail)


class Sink:
    """Takes the tables of one window in any order.

    A file is stored with all its good frames at once, or not at all. Before its points are sent the ledger notes their
    ids beside those of the file's former points; once the index has flushed them the ledger calls the file done. So a
    job that dies anywhere leaves nothing that the next one would not find and mend.
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
        self._storing = storing or Storing(index)
        self._left_out, self._counts = left_out, counts
        self._rows: defaultdict[int, dict[int, dict[str, Any]]] = defaultdict(dict)
        self._ready: list[_Complete] = []
        self._uncommitted: list[_Complete] = []
        self._committed_at = time.monotonic()
        self.accounted: set[int] = set()

    def take(self, table: pa.Table) -> None:
        """Add the rows of a table; store the files that they complete."""
        started = time.perf_counter()
        for row in table.to_pylist():
            number = row["file"]
            if number in self.accounted:
                continue  # a task that was lost and run again brings a file twice
            rows = self._rows[number]
            if row["frame"] == 0:  # the whole file, whatever came of it before its task was lost
                rows.clear()
            rows[row["frame"]] = row  # as it may bring a frame
            if row["frame"] == 0 or len(rows) >= row["of"]:
                self._complete(number, list(rows.values()))
        if sum(len(complete.points) or 1 for complete in self._ready) >= UPSERT_POINTS:
            self._store()
        if time.monotonic() - self._committed_at > COMMIT_SECONDS:
            self.commit()
        self._counts.seconds += time.perf_counter() - started

    def commit(self) -> None:
        """Store what is ready, drop what is no longer any file's, flush the index, and call the files done."""
        try:
            self._store()
            self._storing.wait()
        except Exception:
            self._count_back()
            raise
        if self._uncommitted:
            former = {one.file.key: one.former for one in self._uncommitted}
            files_to_reindex = drop_points(self._index, self._ledger, former)
            self._counts.files_to_reindex |= files_to_reindex
            self._index.flush()
            records = [complete.record() for complete in self._uncommitted]
            self._ledger.put([replace(one, state="writing") if one.key in files_to_reindex else one for one in records])
            self._uncommitted = []
        self._committed_at = time.monotonic()

    def _count_back(self) -> None:
        """After a failure: files that perhaps are not stored are not counted, and never called done."""
        self._counts.files -= sum(bool(complete.points) for complete in self._uncommitted)
        self._counts.points -= sum(len(complete.points) for complete in self._uncommitted)
        self._uncommitted = []

    def _complete(self, number: int, rows: list[dict[str, Any]]) -> None:
        file = self._window[number]
        self.accounted.add(number)
        del self._rows[number]
        rows.sort(key=lambda row: int(row["frame"]))
        points = tuple(self._point(file, row) for row in rows if not row["reason"])
        reason = detail = None
        for (its_reason, its_detail), frames in _alike(rows).items():
            named = f"{_ranges(frames)} of {rows[0]['of']}" if points else None
            self._left_out(file, its_reason, its_detail, named)
            if reason is None:
                reason, detail = its_reason, f"frame {named}: {its_detail}" if named else its_detail
            if not points:
                break  # one reason is enough for the whole file
        self._ready.append(_Complete(file, points, reason, detail))

    def _point(self, file: PendingFile, row: dict[str, Any]) -> Point:
        description = self._index.description
        guess = None if row["best_guess"] is None else description.classes[row["best_guess"]]
        payload = Payload(
            organ=UNKNOWN if guess and not row["known"] else guess,
            best_guess=guess,
            organ_probability=None if guess is None else float(row["organ_probability"]),
            label=file.label,
            header=Header(**{name: row[name] for name in Header.__dataclass_fields__}),
            frame=row["frame"],
            locations=(Location(file.key.root, file.key.path, Stamp(file.size, file.mtime_ns, row["of"])),),
        )
        vectors = {layer: np.frombuffer(row[layer], dtype=FEATURE) for layer in description.layers}
        return Point(point_id(row["identity"]), payload, vectors)

    def _store(self) -> None:
        if not self._ready:
            return
        known = self._ledger.points(complete.file.key for complete in self._ready)
        stored, intents = [], []
        for complete in self._ready:
            record, before = complete.record(), known.get(complete.file.key, ())
            again = complete.reason == Reason.UNREACHABLE.value or (complete.reason in TRANSIENT and before)
            if not complete.points and again:
                continue  # what is stored of it stays, and the next job tries again
            if every := tuple(dict.fromkeys(record.points + before)):
                intents.append(replace(record, state="writing", points=every, reason=None, detail=None))
            stored.append(replace(complete, former=tuple(set(before) - set(record.points))))
        self._ledger.put(intents)
        doomed = {point for complete in stored for point in complete.former}
        arrived = [point for complete in stored for point in complete.points]
        points = self._merge(arrived, doomed)
        for start in range(0, len(points), UPSERT_POINTS):
            self._storing.upsert(points[start : start + UPSERT_POINTS])
        self._counts.points += len(arrived)
        self._counts.files += sum(bool(complete.points) for complete in stored)
        self._uncommitted += stored
        self._ready = []  # not before: what an interruption cuts off here is done again by the commit that follows it

    def _merge(self, points: list[Point], doomed: set[UUID]) -> list[Point]:
        """One point an id, with the locations of all copies; the least location's file gives the rest of the payload.

        So the payload does not depend on which copy arrives first.
        """
        self._note_repeated_uids(points, doomed)
        ids = {point.id for point in points}
        payloads = self._storing.under_way(ids)
        if unknown := ids - payloads.keys():
            payloads |= self._index.retrieve(unknown)
        merged: dict[UUID, Point] = {}
        for point in points:
            other = payloads.get(point.id)
            payload = point.payload if other is None else _merge_payloads(point.payload, other)
            self._counts.copies += other is not None and len(payload.locations) > 1
            payloads[point.id] = payload
            merged[point.id] = replace(point, payload=payload)
        return list(merged.values())

    def _note_repeated_uids(self, points: list[Point], doomed: set[UUID]) -> None:
        uids = {uid for point in points if (uid := point.payload.header.sop_instance_uid)}
        uids -= self._counts.repeated_uids  # asked for again, a UID of a whole archive would bring all of its points
        if not uids:
            return
        seen: dict[tuple[str | None, int], UUID] = {}
        stored = self._index.scroll(Where(must={"sop_instance_uid": uids}, exclude_ids=doomed))
        under_way = (
            (one, payload) for one, payload in self._storing.everything_under_way().items() if one not in doomed
        )
        for point, payload in [*stored, *under_way, *((point.id, point.payload) for point in points)]:
            uid = payload.header.sop_instance_uid
            if uid in uids and seen.setdefault((uid, payload.frame), point) != point:
                self._counts.repeated_uids.add(str(uid))


def _alike(rows: Sequence[dict[str, Any]]) -> dict[tuple[str, str], list[int]]:
    """Reason and detail → frames, of a file's broken ones in order."""
    broken = [row for row in rows if row["reason"]]
    if len({row["detail"] for row in broken}) > MAX_DETAILS:  # messages that have a number of their frame in them
        first: dict[str, str] = {}
        broken = [row | {"detail": first.setdefault(row["reason"], row["detail"])} for row in broken]
    found: defaultdict[tuple[str, str], list[int]] = defaultdict(list)
    for row in broken:
        found[row["reason"], row["detail"]].append(row["frame"])
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
