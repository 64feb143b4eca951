"""The job report: counts, rates, and every file that was left out, with its reason."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from model.errors import Reason, VectorIndexError

Outcome = Literal["complete", "interrupted", "failed"]


TRANSIENT = frozenset({Reason.UNREADABLE.value, Reason.UNREACHABLE.value, Reason.CRASHED.value})
"""Reasons that may be the network's or the machine's fault: they do not take away what was stored of a file before."""


@dataclass(frozen=True, slots=True)
class FileLeftOut:
    """A file that is not in the index, or some frames of one that is.

    Attributes:
        path: address of the file; its names are hashed where the index hides paths.
        reason: one of :class:`model.errors.Reason`.
        detail: what exactly was wrong.
        frames: numbers of the frames, such as ``3, 7-9 of 75``; ``None`` if the whole file was left out.
    """

    path: str
    reason: str
    detail: str
    frames: str | None = None

    @property
    def why(self) -> str:
        """Reason and detail, and of which frames."""
        if self.frames is None:
            return f"{self.reason}: {self.detail}"
        several = "," in self.frames or "-" in self.frames
        return f"{self.reason}: frame{'s' if several else ''} {self.frames}: {self.detail}"


@dataclass(slots=True)
class JobReport:
    """What a job did. Times in seconds; stage times are summed over all workers of the stage.

    Attributes:
        outcome: ``complete`` also if files were left out.
        archives: addresses of the archives.
        index: address of the index.
        model, model_fingerprint: path and fingerprint of the model.
        runtime: what computed the network.
        started, ended: times in ISO 8601, UTC.
        error: message of the error that ended the job, ``None`` if none did.
        files_found: files under the archives: new, changed and unchanged ones, and those that could not be looked at.
        files_indexed, points: files and points that this job stored.
        copies: points of them whose picture another file holds, too.
        files_left_out: by this job; ``left_out_before`` by earlier ones, unchanged since.
        files_in_part: indexed by this job without some of their frames; ``in_part_before`` by earlier ones.
        files_missing: still to do, of those that were found: none after a complete job, but for what its storage did
            not give.
        walk_finished: whether every file of the archives was looked at; not so with ``--limit``, or when interrupted.
        files_lost: whose points were not in the index any more, found by ``--repair``, under whichever archive.
        files_rebuilt: that the index had points of and the ledger had lost, under whichever archive.
        files_labelled: of those found, for which a label was given.
        moved_from: old address of the archive, if ``--moved-from`` named one.
        files_moved: known files that were found at its new address.
        files_gone: known from earlier jobs and no longer there; ``files_pruned`` of them removed from the index.
        pacs_marks: of each PACS, up to which change of it this job, or an earlier one, has seen everything.
        repeated_uids: SOP Instance UIDs that the archive gives to different pictures, each of which is a point.
        stage_seconds: time in which a stage's workers worked, summed over them; of "discover" only the time in which
            the job had to wait for it.
        stage_busy: part of ``seconds_indexing`` in which a stage's workers worked, 0…1.
        bottleneck: the stage whose workers were busiest.
        images_per_second: points over ``seconds_indexing``, from Ray's start to the last point stored.
        left_out: the files that this job left out; ``frames_left_out`` the frames of files that it indexed.
    """

    archives: list[str]
    index: str
    model: str
    model_fingerprint: str
    started: str
    runtime: str = "torch"
    ended: str = ""
    outcome: Outcome = "failed"
    error: str | None = None
    files_found: int = 0
    files_new: int = 0
    files_changed: int = 0
    files_unchanged: int = 0
    files_indexed: int = 0
    files_left_out: int = 0
    left_out_before: int = 0
    files_in_part: int = 0
    in_part_before: int = 0
    files_missing: int = 0
    walk_finished: bool = False
    files_lost: int = 0
    files_rebuilt: int = 0
    files_labelled: int = 0
    moved_from: str | None = None
    files_moved: int = 0
    files_gone: int = 0
    files_pruned: int = 0
    points: int = 0
    copies: int = 0
    pacs_marks: dict[str, str] = field(default_factory=dict)
    repeated_uids: list[str] = field(default_factory=list)
    seconds_total: float = 0.0
    seconds_indexing: float = 0.0
    seconds_optimizing: float = 0.0
    stage_seconds: dict[str, float] = field(default_factory=dict)
    stage_busy: dict[str, float] = field(default_factory=dict)
    bottleneck: str | None = None
    images_per_second: float = 0.0
    left_out_by_reason: dict[str, int] = field(default_factory=dict)
    left_out: list[FileLeftOut] = field(default_factory=list)
    frames_left_out: list[FileLeftOut] = field(default_factory=list)

    def count_left_out(self) -> None:
        """Bring the counts of files left out up to the list."""
        self.files_left_out = len(self.left_out)
        self.files_in_part = len({file.path for file in self.frames_left_out})
        self.left_out_by_reason = dict(Counter(file.reason for file in self.left_out).most_common())

    def find_bottleneck(self, workers: Mapping[str, int]) -> None:
        """Set :attr:`stage_busy` and :attr:`bottleneck` from :attr:`stage_seconds`.

        Args:
            workers: most workers of each stage at the same time; a stage that is not named has one.
        """
        self.stage_busy = {
            stage: round(seconds / (workers.get(stage, 1) * self.seconds_indexing), 3)
            for stage, seconds in self.stage_seconds.items()
        }
        self.bottleneck = max(self.stage_busy, key=self.stage_busy.__getitem__)

    @property
    def anything_left_out(self) -> bool:
        """Whether files under the archives, or frames of them, are not in the index, by this job or an earlier one."""
        return bool(self.left_out or self.left_out_before or self.frames_left_out or self.in_part_before)

    def to_json(self, *, files: bool = True) -> str:
        """The report as JSON; ``files=False`` leaves the lists of single files out."""
        values: dict[str, Any] = asdict(self if files else replace(self, left_out=[], frames_left_out=[]))
        if not files:
            del values["left_out"], values["frames_left_out"]
        text = json.dumps(values, indent=1, ensure_ascii=False)
        return text.encode(errors="backslashreplace").decode()  # a folder's name may not be UTF-8

    def write(self, path: Path) -> None:
        """Write the report as JSON.

        Raises:
            VectorIndexError: the file cannot be written.
        """
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(self.to_json() + "\n", encoding="utf-8")
        except OSError as error:
            raise VectorIndexError(f"the report {path} cannot be written: {error.strerror or error}") from error
