"""Progress: one line a stage with done, total, rate, failures and time left; plain lines where nothing can be drawn."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

import typer
from rich.console import Console, ConsoleOptions, RenderResult
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from cli.console import messages

PLAIN_SECONDS = 10.0
"""Time between plain lines."""

_BAR_CELLS = 24
_NARROW = 72
"""Columns of a terminal below which lines have no bar."""


@dataclass(slots=True)
class _Line:
    description: str
    done: int = 0
    total: int | None = None
    note: str = ""
    first: int = 0
    started: float | None = None
    updated: float = 0.0
    printed: str = ""

    def rate(self) -> float:
        """Items a second from the first update that had any, whose own are undated, to the last."""
        elapsed = self.updated - self.started if self.started is not None else 0.0
        return (self.done - self.first) / elapsed if elapsed > 1 else 0.0

    def text(self) -> str:
        parts = [f"{self.done:,}" + (f"/{self.total:,}" if self.total is not None else "")]
        if rate := self.rate():
            parts.append(f"{rate:,.1f}/s")
            if self.total is not None and self.total > self.done:
                parts.append(f"ETA {_duration((self.total - self.done) / rate)}")
        if self.note:
            parts.append(self.note)
        return " · ".join(parts)


@dataclass(slots=True)
class _Lines:
    """What is drawn: a line a stage, and below them what is waited for."""

    stages: dict[str, _Line] = field(default_factory=dict)
    waiting: str = ""
    since: float = 0.0
    ended: bool = False
    whole: bool = False

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        unicode = not options.ascii_only
        separator = "·" if unicode else "-"
        spinner = Spinner("dots" if unicode else "line", style="progress.spinner")
        stages = list(self.stages.values())  # the job's thread may add one while the display's thread draws
        grid = Table.grid(padding=(0, 1))
        grid.add_column(width=1)
        grid.add_column(no_wrap=True, min_width=max([len(line.description) for line in stages], default=0))
        if bars := options.max_width >= _NARROW:
            grid.add_column(width=_BAR_CELLS, no_wrap=True)
        grid.add_column(overflow="ellipsis")  # the only one that may be cut
        for line in stages:
            cells = [self._bar(line)] if bars else []
            state = Text(" ") if self.ended else spinner
            text = line.text().replace(" · ", f" {separator} ")
            grid.add_row(state, line.description, *cells, Text(text, no_wrap=True, overflow="ellipsis"))
        yield grid
        if self.waiting and not self.ended:
            waited = _duration(time.monotonic() - self.since)
            moving = Table.grid(padding=(0, 1))
            moving.add_row(spinner, Text(f"{self.waiting} {separator} {waited}", no_wrap=True, overflow="ellipsis"))
            yield moving

    def _bar(self, line: _Line) -> ProgressBar:
        """How much is done. Where the total is unknown it moves; in the end it is full, or empty if it was cut off."""
        if line.total is not None:
            return ProgressBar(max(line.total, 1), min(line.done, line.total) or int(not line.total), _BAR_CELLS)
        return ProgressBar(1 if self.ended else None, int(self.whole), _BAR_CELLS)


class StageProgress:
    """Lines by name, made at their first update; drawn live on a terminal, else printed every ten seconds.

    Silent with ``--quiet``, but for questions.
    """

    def __init__(self) -> None:
        self._lines = _Lines()
        self._printed = time.monotonic()
        self._live = (
            Live(
                self._lines, console=messages, refresh_per_second=10, redirect_stdout=False, vertical_overflow="visible"
            )
            if messages.draws
            else None
        )

    def update(self, name: str, done: int, total: int | None = None, note: str = "") -> None:
        """Set a line."""
        self._lines.waiting = ""
        line = self._lines.stages.get(name)
        if line is None:
            line = self._lines.stages[name] = _Line(name)
        line.updated = time.monotonic()
        if done < line.done:  # the stage begins anew, as in every fold of a cross-validation
            line.started = None
        if line.started is None and done:
            line.started, line.first = line.updated, done
        line.done, line.total, line.note = done, total, note
        if not self._live and time.monotonic() - self._printed >= PLAIN_SECONDS:
            self.print_lines()

    def wait(self, what: str) -> None:
        """Say what is waited for, until the next update; on a terminal something moves meanwhile."""
        if what == self._lines.waiting:
            return
        self._lines.waiting, self._lines.since = what, time.monotonic()
        if not self._live:
            messages.print(what, soft_wrap=True, markup=False)

    def print_lines(self) -> None:
        """Print plainly, now, every line that has changed since it was printed."""
        self._printed = time.monotonic()
        for line in self._lines.stages.values():
            if (text := f"{line.description}: {line.text()}") != line.printed:
                messages.print(text, soft_wrap=True, markup=False)
                line.printed = text

    def note(self, text: str) -> None:
        """Print a line that stays."""
        messages.print(text, soft_wrap=not messages.is_terminal, markup=False)

    def ask(self, question: str) -> bool:
        """Ask yes or no, below the lines."""
        with self._undrawn():
            return typer.confirm(question, err=True)

    @contextmanager
    def _undrawn(self) -> Iterator[None]:
        if self._live:
            self._live.stop()
        try:
            yield
        finally:
            if self._live:
                self._live.start()

    def __enter__(self) -> Self:
        if self._live:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._lines.ended, self._lines.whole = True, error is None
        if self._live:
            self._live.stop()
        else:
            self.print_lines()


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
