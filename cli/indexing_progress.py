"""An indexing job in the terminal: progress lines or a JSON log, metrics, its interruption, and who may prune."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import typer

from cli.console import noise_aside
from cli.rendering.json_log import JsonLog
from cli.rendering.progress import StageProgress
from model.errors import SettingError
from workers.report import JobReport
from workers.settings import JobObserver, JobSettings, Observers, Progress

Job = Callable[[JobSettings, JobObserver], JobReport]


def run_job(
    job: Job, settings: JobSettings, *, yes: bool, log_json: bool, metrics: tuple[str, int] | None
) -> JobReport:
    """Run a job under the eyes of whoever is there.

    Args:
        job: :func:`workers.job.index_archive` or :func:`workers.reembedding.reembed`.
        settings: what to index.
        yes: prune without asking.
        log_json: log events as JSON instead of drawing progress.
        metrics: host and port at which Prometheus may ask.
    """
    if settings.prune and not yes and not sys.stdin.isatty():
        raise SettingError("--prune removes points, and nobody can be asked here: add --yes")
    with ExitStack() as stack:
        if not settings.debug:
            stack.enter_context(noise_aside("Ray"))
        observers: list[JobObserver] = [stack.enter_context(_interruptible())]
        if log_json:
            observers.append(JsonLog())
            observers.append(_Pruning(lambda question: yes or typer.confirm(question, err=True)))
        else:
            lines = stack.enter_context(StageProgress())
            observers.append(_Lines(lines))
            observers.append(_Pruning(lambda question: yes or lines.ask(question)))
        if metrics:
            from workers.metrics import serve_metrics

            observers.append(stack.enter_context(serve_metrics(metrics[1], metrics[0])))
        return job(settings, Observers(observers))


class _Pruning(JobObserver):
    def __init__(self, ask: Callable[[str], bool]) -> None:
        self._ask = ask

    def may_prune(self, files: int, /) -> bool:
        try:
            return self._ask(f"Remove what the index has of {files:,} files that are gone?")
        except typer.Abort:
            raise KeyboardInterrupt from None


class _Interruption(JobObserver):
    """Remembers an interruption: one that arrives in a library's callback is swallowed there."""

    asked = False

    def interrupt(self, _signal: int, _frame: Any) -> None:
        self.asked = True
        raise KeyboardInterrupt

    def progress(self, progress: Progress) -> None:
        if self.asked and progress.stage != "done":
            raise KeyboardInterrupt


@contextmanager
def _interruptible() -> Iterator[_Interruption]:
    interruption = _Interruption()
    numbers = (signal.SIGINT, signal.SIGTERM)  # the latter as a cluster ends a job
    previous = {number: signal.signal(number, interruption.interrupt) for number in numbers}
    try:
        yield interruption
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


class _Lines(JobObserver):
    def __init__(self, lines: StageProgress) -> None:
        self._lines = lines

    def progress(self, progress: Progress) -> None:
        plan, total = progress.plan, progress.plan.pending if progress.plan.finished else None
        if progress.stage == "starting":
            self._lines.note("starting Ray")
        elif progress.stage == "optimizing":
            self._lines.note("building the vector index")
        elif progress.stages and progress.sink:
            failed = f"{progress.left_out:,} left out" if progress.left_out else ""
            stored = progress.sink.files + progress.left_out
            self._lines.update("discover", plan.pending + plan.unchanged, None, "" if total is None else "all found")
            self._lines.update("decode", progress.stages.decoded_frames, None, failed)
            self._lines.update("embed", progress.stages.embedded_frames)
            self._lines.update("store", stored, total, f"{progress.sink.points:,} points")
