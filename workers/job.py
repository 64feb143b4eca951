"""The indexing job: plan, pipeline, sink and report, from a list of archives to a complete index."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from index.address import home, parse_address
from index.interface import Index
from index.opening import create_index
from index.schema import Description
from index.unfinished import refuse_unfinished_copy
from model.checkpoint import Metadata, read_metadata
from model.errors import CbmirError, JobError, JobInterrupted, Reason
from model.reading import ReadOptions
from workers.archives import Archive, resolve_archives
from workers.ledger import Ledger
from workers.planning import PendingFile, Plan, number_roots, windows
from workers.preparing import pending_files, refuse_lost_index, settle_key
from workers.report import FileLeftOut, JobReport
from workers.settings import JobObserver, JobSettings, Progress, Stage

if TYPE_CHECKING:
    from workers.counters import StageCounts
    from workers.sink import SinkCounts

PASSES = 2
"""Times that a window's files are sent through the pipeline; the second takes up what was lost with a worker."""

LOOK_SECONDS = 1.0

PURPOSE = "cbmir index"


def index_archive(settings: JobSettings, observer: JobObserver | None = None) -> JobReport:
    """Index archives: everything that is new or changed, and nothing twice.

    Raises:
        JobError: an archive does not exist, or Ray cannot be started, or gave up.
        CheckpointError: the model cannot be read.
        VectorIndexError: the index cannot be made, opened or written, or another model made it.
        JobInterrupted: by Ctrl-C; everything stored is kept, and the report is written.
    """
    archives = resolve_archives(settings.archives)
    metadata = read_metadata(settings.model)
    description = Description(
        model_fingerprint=metadata.fingerprint,
        model_path=str(settings.model.absolute()),
        classes=metadata.classes,
        layers=settings.layers,
        quantization=settings.quantization,
        path_privacy=settings.path_privacy,
        patient_groups=settings.keep_patient_group,
    )
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
        self.settings, self.metadata = settings, metadata
        self.index, self.ledger, self.observer = index, ledger, observer
        names, self.roots = number_roots(index.description.roots, archives)
        index.update_description(roots=names, model_path=str(settings.model.absolute()))
        key = settle_key(settings, ledger, index)
        self.read_options = ReadOptions(key if settings.keep_patient_group else None, settings.skip_burned_in)
        self.plan = Plan()
        self._looked_at = 0.0
        self._complete_before = False
        self.sink_counts: SinkCounts | None = None
        self.stage_counts: StageCounts | None = None
        self._seconds_waiting = 0.0
        self.report = JobReport(
            archives=[archive.address for archive in archives],
            index=str(parse_address(settings.index)),
            model=str(settings.model.absolute()),
            model_fingerprint=metadata.fingerprint,
            started=_now(),
        )

    def run(self) -> JobReport:
        started = time.perf_counter()
        last = self.ledger.last_job()
        self._complete_before = last is not None and last.outcome == "complete"
        number = self.ledger.start_job(self.report.started)
        try:
            self._index_windows(pending_files(self.settings, self.roots, self.ledger, self.plan))
            self._note_unreadable()
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
            self._fill_report(time.perf_counter() - started)
            self.ledger.end_job(number, self.report.ended, self.report.outcome, self.report.to_json(files=False))
            self.report.write(home(self.settings.index) / "reports" / f"job-{number:06d}.json")
            if self.settings.report:
                self.report.write(self.settings.report)
            self._notify("done")
        return self.report

    def _index_windows(self, files: Iterator[PendingFile]) -> None:
        first = next(files, None)
        if first is None:
            return  # nothing to embed: neither Ray nor torch is imported
        self._notify("starting")
        import ray
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        from workers.cluster import ray_session, share_resources
        from workers.counters import Counters
        from workers.pipeline import Network
        from workers.sink import SinkCounts

        settings, self.sink_counts = self.settings, SinkCounts()
        started = time.perf_counter()
        try:
            with ray_session(settings.ray_address, cpus=settings.cpus, debug=settings.debug):
                total = ray.cluster_resources()
                resources = share_resources(
                    total.get("CPU", 1.0),
                    total.get("GPU", 0.0),
                    actors=settings.actors,
                    actor_gpus=settings.gpus,
                    batch_size=settings.batch_size,
                )
                layers = self.index.description.layers
                network = Network(str(settings.model.absolute()), self.metadata.fingerprint, layers)
                # Beside the driver: on a node that is lost it would take the tasks that report to it along.
                here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
                counters = ray.remote(num_cpus=0, max_restarts=-1, max_task_retries=-1, scheduling_strategy=here)(
                    Counters
                ).remote()
                self.report.stage_workers = {"decode": resources.decode_tasks, "embed": resources.actors[1]}
                shard = 0
                for window in self._timed(windows(_chain(first, files))):
                    shard = self._index_window(window, shard, network, resources, counters)
        finally:
            self.report.seconds_indexing = time.perf_counter() - started

    def _timed(self, items: Iterator[list[PendingFile]]) -> Iterator[list[PendingFile]]:
        """The windows, while the time is taken in which the job waits for them."""
        while True:
            started = time.perf_counter()
            window = next(items, None)
            self._seconds_waiting += time.perf_counter() - started
            if window is None:
                return
            yield window

    def _index_window(self, window: list[PendingFile], shard: int, network: Any, resources: Any, counters: Any) -> int:
        """Send a window through the pipeline until every file of it is accounted for; return the next shard number."""
        import ray
        from ray.data.exceptions import ExecutionTimeoutError, SystemException
        from ray.exceptions import RayError

        from workers.pipeline import RepositorySource, run_pipeline
        from workers.sink import Sink

        assert self.sink_counts is not None
        for attempt in range(PASSES):
            source = RepositorySource(
                window,
                shard,
                actors=resources.actors[1],
                file_seconds=self.settings.file_seconds,
                options=self.read_options,
                counters=counters,
            )
            sink = Sink(self.index, self.ledger, window, self._leave_out, self.sink_counts)
            try:
                for table in run_pipeline(source, network, resources, counters, debug=self.settings.debug):
                    sink.take(table)
                    self._look(counters)
            except (RayError, SystemException, ExecutionTimeoutError) as error:
                if attempt + 1 == PASSES:
                    raise JobError(
                        f"Ray gave the job up: {_last_line(error)}: see --debug, then run it again"
                    ) from error
            else:
                self.stage_counts = ray.get(counters.counts.remote())
            finally:
                sink.commit()
            shard += len(source.shards)
            window = [file for number, file in enumerate(window) if number not in sink.accounted]
            if not window:
                return shard
        for file in window:
            self._leave_out(file, Reason.CRASHED.value, "its worker was lost twice; run the same command again")
        return shard

    def _look(self, counters: Any) -> None:
        """Tell the observer how far the stages are, once a second at most."""
        import ray

        if time.monotonic() - self._looked_at > LOOK_SECONDS:
            self.stage_counts = ray.get(counters.counts.remote())
            self._looked_at = time.monotonic()
            self._notify("indexing")

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
                "Nothing was removed"
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
        if sink := self.sink_counts:
            report.files_indexed, report.points, report.copies = sink.files, sink.points, sink.copies
            report.repeated_uids = sorted(sink.repeated_uids)
            report.images_per_second = sink.points / report.seconds_indexing if report.seconds_indexing else 0.0
            report.stage_seconds |= {"discover": self._seconds_waiting, "upsert": sink.seconds}
        if stages := self.stage_counts:
            report.stage_seconds |= {"decode": stages.decode_seconds, "embed": stages.embed_seconds}
        report.find_bottleneck()

    def _notify(self, stage: Stage) -> None:
        left_out = len(self.report.left_out)
        self.observer.progress(Progress(stage, self.plan, self.stage_counts, self.sink_counts, left_out))


def _chain(first: PendingFile, rest: Iterator[PendingFile]) -> Iterator[PendingFile]:
    yield first
    yield from rest


def _last_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[-1]


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
