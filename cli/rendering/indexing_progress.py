"""An indexing job in the terminal: progress lines or a JSON log, metrics, its interruption, and who may prune."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import ClassVar

import typer

from cli.console import messages, noise_aside
from cli.interruption import on_interruption
from cli.rendering.json_log import JsonLog
from cli.rendering.progress import StageProgress
from model.errors import SettingError
from workers.indexing.report import JobReport
from workers.indexing.settings import JobObserver, JobSettings, Observers, Progress

Job = Callable[[JobSettings, JobObserver], JobReport]


def run_job(
    job: Job, settings: JobSettings, *, yes: bool, log_json: bool, metrics: tuple[str, int] | None
) -> JobReport:
    """Run a job, show its progress, serve its metrics, and stop it at Ctrl-C or SIGTERM.

    Args:
        job: :func:`workers.indexing.job.index_archive` or :func:`workers.indexing.reembedding.reembed`.
        settings: what to index.
        yes: prune without asking.
        log_json: log events as JSON instead of drawing progress.
        metrics: host and port at which Prometheus may ask.

    Raises:
        SettingError: pruning would have to be confirmed without a terminal, or the port cannot be used.
        CbmirError: as the job.
    """
    if settings.prune and not yes and not sys.stdin.isatty():
        raise SettingError("--prune removes points, and nobody can be asked here: add --yes")
    with ExitStack() as stack:
        if not settings.machine.debug:
            stack.enter_context(noise_aside("Ray"))
        observers: list[JobObserver] = [stack.enter_context(_interruptible())]
        if log_json:
            observers.append(JsonLog())
            observers.append(_Pruning(lambda question: yes or typer.confirm(question, err=True)))
        else:
            lines = stack.enter_context(StageProgress())
            observers.append(IndexingLines(lines))
            observers.append(_Pruning(lambda question: yes or lines.ask(question)))
        if metrics:
            from workers.indexing.metrics import serve_metrics

            host, port = metrics
            observers.append(stack.enter_context(serve_metrics(port, host)))
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

    def interrupt(self) -> None:
        self.asked = True
        raise KeyboardInterrupt

    def progress(self, progress: Progress) -> None:
        if self.asked and progress.stage != "done":
            raise KeyboardInterrupt


@contextmanager
def _interruptible() -> Iterator[_Interruption]:
    interruption = _Interruption()
    with on_interruption(interruption.interrupt):
        yield interruption


class IndexingLines(JobObserver):
    """A job's progress, as lines."""

    _WAITED_FOR: ClassVar = {
        "rebuilding": "making the ledger again from the index's points",
        "verifying": "comparing the ledger with the index",
        "starting": "starting Ray",
        "loading": "Ray's workers load the network",
        "optimizing": "building the vector index",
    }

    def __init__(self, lines: StageProgress) -> None:
        self._lines = lines

    def progress(self, progress: Progress) -> None:
        """Say what is waited for, or how far each stage is; no file is counted twice."""
        plan, stages, sink = progress.plan, progress.stages, progress.sink
        if (
            stages
            and sink
            and (stages.decoded_frames or stages.left_out_files or progress.stage in {"optimizing", "done"})
        ):
            left_out = f"{progress.left_out:,} left out" if progress.left_out else ""
            stored = sink.files + progress.pending_left_out
            found = "" if plan.total is None else "all found" if plan.finished else "as many as asked for"
            self._lines.update("discover", plan.pending + plan.unchanged, None, found)
            self._lines.update("decode", stages.decoded_frames, None, left_out)
            self._lines.update("embed", stages.embedded_frames)
            self._lines.update("store", stored, plan.total, f"{sink.points:,} points")
        if progress.graph and not progress.graph.complete:
            self._lines.update("graph", progress.graph.indexed_vectors, progress.graph.vectors)
        elif what := self._WAITED_FOR.get(progress.stage):
            self._lines.wait(what)

    def stalled(self, seconds: float, nodes: str) -> None:
        """Say that nothing moves, and what Ray says of its nodes."""
        messages.print(f"no image has come for {seconds:,.0f} s: {nodes}", soft_wrap=True, markup=False)

    def worker_lost(self, files: int, why: str) -> None:
        """Say what is done again, and why it takes longer."""
        messages.print(f"a worker was lost ({why}): {files:,} files are done again", soft_wrap=True, markup=False)
