"""The indexing job: plan, pipeline, sink and report, from a list of archives to a complete index."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import chain
from typing import TYPE_CHECKING

from index.address import home, parse_address
from index.interface import Index
from index.opening import create_index
from index.unfinished import refuse_unfinished_copy
from model.errors import CbmirError, JobError, JobInterrupted, Reason, SettingError
from model.metadata import Metadata, read_metadata
from model.reading import ReadOptions
from model.runtimes import require_runtime
from workers.archives import Archive, resolve_archives
from workers.ledger import Ledger
from workers.planning import PendingFile, Plan
from workers.preparing import pending_files, refuse_lost_index, register_roots, settle_key, wanted_description
from workers.report import FileLeftOut, JobReport
from workers.settings import JobObserver, JobSettings, Progress, Stage

if TYPE_CHECKING:
    from workers.streaming import Stream

PURPOSE = "cbmir index"


def index_archive(settings: JobSettings, observer: JobObserver | None = None) -> JobReport:
    """Index archives: everything that is new or changed, and nothing twice.

    Raises:
        JobError: an archive does not exist, or Ray cannot be started, or gave up.
        CheckpointError: the model cannot be read.
        VectorIndexError: the index cannot be made, opened or written, or another model made it.
        SettingError: the runtime cannot be used.
        JobInterrupted: by Ctrl-C; everything stored is kept, and the report is written.
    """
    archives = resolve_archives(settings.archives)
    metadata = read_metadata(settings.model)
    require_runtime(settings.runtime, settings.model, metadata)
    if settings.gpus and settings.runtime != "torch":
        raise SettingError(f"--runtime {settings.runtime} computes on processors only: leave --gpus out")
    description = wanted_description(settings, metadata)
    refuse_unfinished_copy(home(settings.index))
    refuse_lost_index(settings.index)
    with create_index(settings.index, description, purpose=PURPOSE, layout=settings.layout) as index:
        ledger = Ledger(home(settings.index))
        try:
            return _Job(settings, metadata, index, ledger, archives, observer or JobObserver()).run()
        finally:
            ledger.close()


class _Job:
    def __init__(
        self,
        settings: JobSettings,
        metadata: Metadata,
        index: Index,
        ledger: Ledger,
        archives: list[Archive],
        observer: JobObserver,
    ) -> None:
        self.settings = settings
        self.index, self.ledger, self.observer = index, ledger, observer
        self.roots = register_roots(index, archives, str(settings.model.absolute()))
        key = settle_key(settings, ledger, index)
        self.read_options = ReadOptions(key if settings.keep_patient_group else None, settings.skip_burned_in)
        self.plan = Plan()
        self._complete_before = False
        self.stream: Stream | None = None
        self.report = JobReport(
            archives=[archive.address for archive in archives],
            index=str(parse_address(settings.index)),
            model=str(settings.model.absolute()),
            model_fingerprint=metadata.fingerprint,
            started=_now(),
            runtime=settings.runtime,
        )

    def run(self) -> JobReport:
        started = time.perf_counter()
        last = self.ledger.last_job()
        self._complete_before = last is not None and last.outcome == "complete"
        number = self.ledger.start_job(self.report.started)
        try:
            self._embed(pending_files(self.settings, self.roots, self.ledger, self.plan))
            self._prune()
            self._optimize()
            self.report.outcome = "complete"
        except KeyboardInterrupt as error:
            self.report.outcome = "interrupted"
            raise JobInterrupted(
                f"the job was stopped; {self.report.index} keeps everything stored: the same command goes on"
            ) from error
        except CbmirError as error:
            self.report.error = str(error)
            raise
        finally:
            self._note_unreadable()
            self._fill_report(time.perf_counter() - started)
            try:
                self.ledger.end_job(number, self.report.ended, self.report.outcome, self.report.to_json(files=False))
                self.report.write(home(self.settings.index) / "reports" / f"job-{number:06d}.json")
                if self.settings.report:
                    self.report.write(self.settings.report)
            finally:  # also if the disk is full
                self.observer.ended(self.report)
            self._notify("done")
        return self.report

    def _embed(self, files: Iterator[PendingFile]) -> None:
        first = next(files, None)
        if first is None:
            return  # neither Ray nor torch is imported
        self._notify("starting")
        from workers.cluster import settle_environment

        settle_environment()
        from workers.pipeline import Network
        from workers.streaming import Stream

        model, layers = str(self.settings.model.absolute()), self.index.description.layers
        network = Network(model, self.report.model_fingerprint, layers, self.settings.runtime)
        self.stream = Stream(
            self.settings,
            network,
            self.index,
            self.ledger,
            options=self.read_options,
            left_out=self._leave_out,
            moved=lambda: self._notify("indexing"),
        )
        started = time.perf_counter()
        try:
            self.stream.run(chain((first,), files))
        finally:
            self.report.seconds_indexing = time.perf_counter() - started

    @property
    def _changed(self) -> bool:
        return self.plan.pending > 0 or self.report.files_pruned > 0

    def _leave_out(self, file: PendingFile, reason: str, detail: str) -> None:
        self._note_left_out(FileLeftOut(file.shown, reason, detail))

    def _note_left_out(self, file: FileLeftOut) -> None:
        self.report.left_out.append(file)
        self.observer.left_out(file)

    def _note_unreadable(self) -> None:
        for path, why in self.plan.unreadable.items():
            self._note_left_out(FileLeftOut(path, Reason.UNREADABLE.value, why))

    def _prune(self) -> None:
        if not (self.settings.prune and self.plan.gone):
            return
        if self.plan.empty:
            raise JobError(
                f"{self.plan.empty[0]} holds no file now, though {len(self.plan.gone):,} are indexed: is it mounted? "
                "Nothing was removed; if it is gone for good: cbmir delete --archive"
            )
        if self.observer.may_prune(len(self.plan.gone)):
            from workers.removal import forget_files

            forget_files(self.index, self.ledger, self.plan.gone)
            self.report.files_pruned = len(self.plan.gone)

    def _optimize(self) -> None:
        if not self._changed and self._complete_before:
            return  # what an undisturbed job left, without asking the engine, which would have to be loaded
        started = time.perf_counter()
        self._notify("optimizing")
        self.index.optimize()
        self.report.seconds_optimizing = time.perf_counter() - started

    def _fill_report(self, seconds: float) -> None:
        report, plan = self.report, self.plan
        report.ended, report.seconds_total = _now(), seconds
        report.files_new, report.files_changed, report.files_unchanged = plan.new, plan.changed, plan.unchanged
        report.files_found = plan.pending + plan.unchanged + len(plan.unreadable)
        report.left_out_before, report.files_gone = plan.left_out_before, len(plan.gone)
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
        self.observer.progress(Progress(stage, self.plan, stages, stored, left_out))


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
