"""The indexing job: plan, pipeline, sink and report, from a list of archives to a complete index."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from datetime import UTC, datetime
from itertools import chain
from typing import TYPE_CHECKING

from index.engines.engine import Index, Statistics
from index.ledger import FileKey, Ledger
from index.ledgers import open_ledger
from index.opening import create_index
from index.roots import Archive, number_roots
from model.errors import CbmirError, JobError, JobInterrupted, Reason, was_interrupted
from model.images.reading import ReadOptions
from model.images.sources import storage_answers
from model.network.metadata import read_metadata
from workers.indexing.discovery import BROKEN_ARCHIVE, EMPTY_ARCHIVE, FOLDER_LINK
from workers.indexing.planning import PendingFile, Plan
from workers.indexing.preparing import (
    Checked,
    check_job,
    pacs_walk,
    pending_files,
    provide_key,
    register_roots,
    wanted_description,
)
from workers.indexing.report import FileLeftOut, JobReport
from workers.indexing.settings import JobObserver, JobSettings, Progress, Stage

if TYPE_CHECKING:
    from workers.indexing.sink import SinkCounts
    from workers.indexing.streaming import Stream

PURPOSE = "cbmir index"

_AGAIN = (Reason.UNREACHABLE.value, Reason.CRASHED.value)

OUT_OF_REACH = 500
"""Files that their storage does not give, one after another, of which a job takes it for gone."""


def index_archive(settings: JobSettings, observer: JobObserver | None = None) -> JobReport:
    """Index archives: everything that is new or changed, and nothing twice.

    Raises:
        JobError: an archive does not exist, or Ray cannot be started, or gave up.
        CheckpointError: the model cannot be read.
        VectorIndexError: the index cannot be made, opened or written, or another model made it.
        RepositoryError: the labels cannot be read, or belong to other files.
        SettingError: settings contradict each other.
        JobInterrupted: by Ctrl-C; everything stored is kept, and the report is written.
    """
    checked = check_job(settings, patient=True)
    settings = checked.settings
    description = wanted_description(settings, checked.metadata)
    with create_index(settings.index, description, purpose=PURPOSE, layout=settings.layout) as index:
        ledger = open_ledger(settings.index, purpose=PURPOSE, hides_paths=settings.privacy.paths == "hash")
        try:
            return _Job(checked, index, ledger, observer or JobObserver()).run()
        finally:
            ledger.close()


class _Job:
    def __init__(self, checked: Checked, index: Index, ledger: Ledger, observer: JobObserver) -> None:
        self.settings = settings = checked.settings
        self.index, self.ledger, self.observer = index, ledger, observer
        self.report = JobReport(
            archives=[archive.address for archive in checked.archives],
            index=str(settings.index),
            model=str(checked.model.absolute()),
            model_fingerprint=checked.metadata.fingerprint,
            started=_now(),
            runtime=settings.machine.runtime,
        )
        self._move(checked.archives)
        self.roots = register_roots(index, checked.archives, self.report.model, self.settings.viewer_url)
        ledger.claim({root.number: root.address for root in self.roots})
        key = provide_key(settings, ledger, index)
        self.read_options = ReadOptions(
            key if settings.privacy.keep_patient_group else None, settings.privacy.skip_burned_in
        )
        self.plan = Plan()
        self._complete_before = False
        self._pending_left_out = 0
        self._out_of_reach = self._stored_at = 0
        self._again: SinkCounts | None = None
        self._graph: Statistics | None = None
        self._stack = ExitStack()
        self.stream: Stream | None = None

    def _move(self, archives: list[Archive]) -> None:
        if not self.settings.moved_from:
            return
        from workers.indexing.moving import find_move

        move = find_move(self.settings, archives, self.index.description.roots, self.ledger)
        if move.number is not None:
            self.ledger.claim({move.number: move.new})
            self.index.replace_root(move.number, move.new)
        self.report.moved_from, self.report.files_moved = move.old, move.files

    def run(self) -> JobReport:
        started = time.perf_counter()
        last = self.ledger.last_job()
        self._complete_before = last is not None and last.outcome == "complete"
        number = self.ledger.start_job(self.report.started, self.report.to_json(files=False))
        try:
            self._rebuild_ledger()
            self._repair()
            with self._stack:  # Ray, which is started by the first file that must be read
                walk = pacs_walk(self.settings, self.ledger)
                self.report.pacs_marks = dict(walk.marks)
                self._embed(pending_files(self.settings, self.roots, self.ledger, self.plan, walk))
                if not any(file.reason in _AGAIN for file in self.report.left_out):  # else what changed is asked again
                    self.report.pacs_marks = walk.marks
                files_to_reindex = self._prune() | (self.stream.stored.files_to_reindex if self.stream else set())
                self._read_again(files_to_reindex)
            self._optimize()
            self.report.outcome = "complete"
        except (KeyboardInterrupt, Exception) as error:
            if not was_interrupted(error):
                self.report.error = str(error) if isinstance(error, CbmirError) else None
                raise
            self.report.outcome = "interrupted"
            if self.stream and self.stream.gave_up:
                self.report.error = (
                    f"{self.stream.gave_up}: the job gave up (--stall-timeout); {self.report.index} keeps everything "
                    "stored, and the same command goes on"
                )
                raise JobError(self.report.error) from None  # nobody has pressed Ctrl-C
            raise JobInterrupted(
                f"the job was stopped; {self.report.index} keeps everything stored: the same command goes on"
            ) from error
        finally:
            self._note_unreadable()
            self._fill_report(time.perf_counter() - started)
            try:
                self.ledger.end_job(number, self.report.ended, self.report.outcome, self.report.to_json(files=False))
                self.report.write(self.settings.index.home / "reports" / f"job-{number:06d}.json")
                if self.settings.report:
                    self.report.write(self.settings.report)
            finally:  # also if the disk is full
                self.observer.ended(self.report)
            self._notify("done")
        return self.report

    def _rebuild_ledger(self) -> None:
        """Learn from the index's points what a ledger that was lost had known."""
        if not self.settings.repair and (self.ledger.counts() or not self.index.count()):
            return
        from index.upkeep.rebuilding import rebuild_ledger

        self._notify("rebuilding")
        self.report.files_rebuilt = rebuild_ledger(self.index, self.ledger).files

    def _repair(self) -> None:
        """Call half done what the index has lost, so that it is among what is pending."""
        if not self.settings.repair:
            return
        from index.upkeep.verify import verify

        self._notify("verifying")
        lost = verify(self.index, self.ledger).files_missing
        self.ledger.mark_writing(lost)
        self.report.files_lost = len(lost)

    def _embed(self, files: Iterator[PendingFile], counts: SinkCounts | None = None) -> None:
        first = next(files, None)
        if first is None:
            return  # neither Ray nor torch is imported
        started = time.perf_counter()
        try:
            self._open_stream().run(chain((first,), files), counts=counts)
        finally:
            self.report.seconds_indexing += time.perf_counter() - started

    def _open_stream(self) -> Stream:
        if self.stream:
            return self.stream
        self._notify("starting")
        from workers.cluster import set_ray_environment

        set_ray_environment()
        from workers.indexing.stages import Network
        from workers.indexing.streaming import Stream

        described = self.index.description
        network = Network(
            self.report.model,
            self.report.model_fingerprint,
            described.layers,
            self.settings.machine.runtime,
            described.heads,
            described.probe,
            read_metadata(self.report.model).preparation,
        )
        self.stream = self._stack.enter_context(
            Stream(
                self.settings.machine,
                network,
                self.index,
                self.ledger,
                options=self.read_options,
                pacs=self.settings.pacs,
                left_out=self._leave_out,
                server=self.settings.index if self.settings.index.server else None,
                stalled=self.observer.stalled,
                worker_lost=self.observer.worker_lost,
                loading=lambda: self._notify("loading"),
                moved=lambda: self._notify("indexing"),
            )
        )
        return self.stream

    def _read_again(self, files_to_reindex: set[FileKey]) -> None:
        """Index anew the files that speak for a point from now on: its header is still that of the file before them.

        They may lie in any root; one that is gone, too, is left to a job over its archive.
        """
        if not files_to_reindex:
            return
        roots = self.index.description.roots
        concerned = [Archive(roots[number]) for number in sorted({key.root for key in files_to_reindex})]
        settings = replace(self.settings, labels=None, limit=None)
        files = pending_files(settings, number_roots(roots, concerned)[1], self.ledger, Plan())
        from workers.indexing.sink import SinkCounts

        self._again = SinkCounts()
        self._embed((file for file in files if file.key in files_to_reindex), self._again)

    @property
    def _changed(self) -> bool:
        return self.plan.pending > 0 or self.report.files_pruned > 0

    def _leave_out(self, file: PendingFile, reason: str, detail: str, frames: str | None = None) -> None:
        if frames:
            self.report.frames_left_out.append(part := FileLeftOut(file.shown, reason, detail, frames))
            self.observer.left_out(part)
            return
        if reason != Reason.UNREACHABLE.value:
            self._pending_left_out += 1
        self._note_left_out(FileLeftOut(file.shown, reason, detail))
        self._watch_storage(reason, detail)

    def _watch_storage(self, reason: str, detail: str) -> None:
        """End a job whose storage gives nothing any more, before it has asked for a million files in vain.

        Raises:
            JobError: as many files as :data:`OUT_OF_REACH`, one after another, could not be reached, nor their storage.
        """
        stored = sum(counts.files for counts in (self._again, self.stream and self.stream.stored) if counts)
        if reason != Reason.UNREACHABLE.value or stored != self._stored_at:
            self._out_of_reach, self._stored_at = 0, stored
        self._out_of_reach += reason == Reason.UNREACHABLE.value
        if self._out_of_reach < OUT_OF_REACH:
            return
        self._out_of_reach = 0
        if not all(map(storage_answers, self.report.archives)):
            raise JobError(
                f"{OUT_OF_REACH:,} files one after another could not be reached (the last: {detail}): mend the "
                "connection, or renew the credentials; everything stored is kept, and the same command goes on"
            )

    def _note_left_out(self, file: FileLeftOut) -> None:
        self.report.left_out.append(file)
        self.observer.left_out(file)

    def _note_unreadable(self) -> None:
        for path, why in self.plan.unreadable.items():
            reason = Reason.FOLDER_LINK if why == FOLDER_LINK else Reason.UNREADABLE
            if why == EMPTY_ARCHIVE or why.startswith(BROKEN_ARCHIVE):
                reason = Reason.CORRUPT
            self._note_left_out(FileLeftOut(path, reason.value, why))

    def _prune(self) -> set[FileKey]:
        """Remove what the walk has found gone; return the files that must be read again for it."""
        gone = self.plan.gone
        if not (self.settings.prune and gone and gone.files):
            return set()
        if gone.empty:
            raise JobError(
                f"{gone.empty[0]} holds no file now, though {len(gone.files):,} are indexed: is it mounted? "
                "Nothing was removed; if it is gone for good: cbmir delete --archive"
            )
        if not self.observer.may_prune(len(gone.files)):
            return set()
        from index.upkeep.delete import forget_files

        files_to_reindex = forget_files(self.index, self.ledger, gone.files)
        self.report.files_pruned = len(gone.files)
        return files_to_reindex

    def _optimize(self) -> None:
        if not self._changed and self._complete_before:
            return  # what an undisturbed job left, without asking the engine, which would have to be loaded
        started = time.perf_counter()
        self._notify("optimizing")
        self.index.optimize(self._graph_grows)
        self.report.seconds_optimizing = time.perf_counter() - started

    def _graph_grows(self, statistics: Statistics) -> None:
        self._graph = statistics
        self._notify("optimizing")

    def _fill_report(self, seconds: float) -> None:
        report, plan = self.report, self.plan
        report.ended, report.seconds_total = _now(), seconds
        report.files_new, report.files_changed, report.files_unchanged = plan.new, plan.changed, plan.unchanged
        report.files_found = plan.pending + plan.unchanged + len(plan.unreadable)
        report.in_part_before = plan.in_part_before
        report.left_out_before, report.files_gone = plan.left_out_before, len(plan.gone.files) if plan.gone else 0
        report.files_labelled, report.walk_finished = plan.labelled, plan.finished
        done = self._pending_left_out + (self.stream.stored.files if self.stream else 0)
        report.files_missing = max(0, plan.pending - done)
        report.count_left_out()
        if stream := self.stream:
            sink, stages = stream.stored, stream.stages
            report.files_indexed, report.points, report.copies = sink.files, sink.points, sink.copies
            report.repeated_uids = sorted(sink.repeated_uids)
            report.images_per_second = sink.points / report.seconds_indexing
            report.stage_seconds = {
                "discover": stream.seconds_waiting,
                "decode": stages.decode_seconds,
                "embed": stages.embed_seconds,
                "upsert": sink.seconds,
            }
            report.find_bottleneck(stream.workers)

    def _notify(self, stage: Stage) -> None:
        left_out = len(self.report.left_out)
        stages, stored = (self.stream.stages, self.stream.stored) if self.stream else (None, None)
        self.observer.progress(
            Progress(stage, self.plan, stages, stored, left_out, self._pending_left_out, self._graph)
        )


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
