"""Progress: one line a stage with done, total, rate, failures and time left; plain lines where no terminal is."""

from __future__ import annotations

import time
from dataclasses import dataclass
from types import TracebackType
from typing import Self

import typer
from rich.progress import BarColumn, Progress, ProgressColumn, SpinnerColumn, Task, TaskID, TextColumn
from rich.text import Text

from cli.console import messages

PLAIN_SECONDS = 10.0
"""Time between plain lines."""


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


class _Text(ProgressColumn):
    def __init__(self, lines: dict[TaskID, _Line]) -> None:
        super().__init__()
        self._lines = lines

    def render(self, task: Task) -> Text:
        return Text(self._lines[task.id].text())


class StageProgress:
    """Lines by name, made at their first update, drawn live on a terminal and printed every ten seconds elsewhere."""

    def __init__(self) -> None:
        self._lines: dict[str, _Line] = {}
        self._tasks: dict[TaskID, _Line] = {}
        self._ids: dict[str, TaskID] = {}
        self._printed = time.monotonic()
        columns = (SpinnerColumn(), TextColumn("{task.description:<10}"), BarColumn(24), _Text(self._tasks))
        self._live = Progress(*columns, console=messages) if messages.is_terminal else None

    def update(self, name: str, done: int, total: int | None = None, note: str = "") -> None:
        """Set a line."""
        line = self._lines.setdefault(name, _Line(name))
        line.updated = time.monotonic()
        if done < line.done:  # the stage begins anew, as in every fold of a cross-validation
            line.started = None
        if line.started is None and done:
            line.started, line.first = line.updated, done
        line.done, line.total, line.note = done, total, note
        if self._live:
            if name not in self._ids:
                task = self._live.add_task(name, total=total, start=True)
                self._ids[name], self._tasks[task] = task, line
            self._live.update(self._ids[name], completed=done, total=total)
        elif time.monotonic() - self._printed >= PLAIN_SECONDS:
            self.print_lines()

    def print_lines(self) -> None:
        """Print plainly, now, every line that has changed since it was printed."""
        self._printed = time.monotonic()
        for line in self._lines.values():
            if (text := f"{line.description}: {line.text()}") != line.printed:
                messages.print(text, soft_wrap=True)
                line.printed = text

    def note(self, text: str) -> None:
        """Print a line that stays."""
        (self._live.console if self._live else messages).print(text, soft_wrap=True)

    def ask(self, question: str) -> bool:
        """Ask yes or no, below the lines."""
        if self._live:
            self._live.stop()
        answer = typer.confirm(question, err=True)
        if self._live:
            self._live.start()
        return answer

    def __enter__(self) -> Self:
        if self._live:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live:
            self._live.stop()
        else:
            self.print_lines()


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
