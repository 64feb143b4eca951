"""A running job's metrics for Prometheus: images by stage and outcome, seconds by stage, queue lengths."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, get_args

from prometheus_client import CollectorRegistry, start_http_server
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from model.errors import SettingError
from workers.indexing.settings import JobObserver, Progress, Stage

if TYPE_CHECKING:
    from workers.indexing.counters import StageCounts
    from workers.indexing.sink import SinkCounts


class Metrics(JobObserver, Collector):
    """Keeps a job's last progress and turns it into metrics when Prometheus asks."""

    def __init__(self) -> None:
        self._last: Progress | None = None

    def progress(self, progress: Progress) -> None:
        """Remember how far the job is."""
        self._last = progress

    def collect(self) -> Iterable[Metric]:
        """The metrics of this moment; none before the job has begun."""
        if self._last is None:
            return
        yield self._stage(self._last)
        yield self._files(self._last)
        if (stages := self._last.stages) and (sink := self._last.sink):
            yield _images(stages, sink)
            yield _seconds(stages, sink)
            yield self._queues(self._last, stages, sink)

    @staticmethod
    def _stage(progress: Progress) -> Metric:
        metric = GaugeMetricFamily("cbmir_job_stage", "1 for what the job does now, 0 for the rest", labels=["stage"])
        for stage in get_args(Stage):
            metric.add_metric([stage], float(stage == progress.stage))
        return metric

    @staticmethod
    def _files(progress: Progress) -> Metric:
        metric = CounterMetricFamily("cbmir_files", "Files of the archives, by what became of them", labels=["outcome"])
        metric.add_metric(["unchanged"], progress.plan.unchanged)
        metric.add_metric(["indexed"], progress.sink.files if progress.sink else 0)
        metric.add_metric(["left out"], progress.left_out)
        return metric

    @staticmethod
    def _queues(progress: Progress, stages: StageCounts, sink: SinkCounts) -> Metric:
        metric = GaugeMetricFamily(
            "cbmir_queue_length", "What waits for a stage, or is in it", labels=["stage", "unit"]
        )
        metric.add_metric(["all", "files"], max(0, progress.plan.pending - sink.files - progress.left_out))
        metric.add_metric(["embed", "images"], max(0, stages.decoded_frames - stages.embedded_frames))
        metric.add_metric(["upsert", "images"], max(0, stages.embedded_frames - sink.points))
        return metric


def _images(stages: StageCounts, sink: SinkCounts) -> Metric:
    metric = CounterMetricFamily("cbmir_images", "Images by stage and outcome", labels=["stage", "outcome"])
    metric.add_metric(["decode", "done"], stages.decoded_frames)
    metric.add_metric(["decode", "file left out"], stages.left_out_files)
    metric.add_metric(["embed", "done"], stages.embedded_frames)
    metric.add_metric(["upsert", "done"], sink.points)
    metric.add_metric(["upsert", "copy"], sink.copies)
    return metric


def _seconds(stages: StageCounts, sink: SinkCounts) -> Metric:
    metric = CounterMetricFamily("cbmir_stage_seconds", "Seconds of work, summed over all workers", labels=["stage"])
    metric.add_metric(["decode"], stages.decode_seconds)
    metric.add_metric(["embed"], stages.embed_seconds)
    metric.add_metric(["upsert"], sink.seconds)
    return metric


@contextmanager
def serve_metrics(port: int, host: str) -> Iterator[Metrics]:
    """Answer ``http://host:port/metrics`` while a job runs; give its metrics to the job as an observer.

    Raises:
        SettingError: the port is taken, or the host is not this machine's.
    """
    metrics, registry = Metrics(), CollectorRegistry()
    registry.register(metrics)
    try:
        server, thread = start_http_server(port, addr=host, registry=registry)
    except OSError as error:
        raise SettingError(f"--metrics-port {port}: nothing can listen at {host}: {error.strerror or error}") from error
    try:
        yield metrics
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
