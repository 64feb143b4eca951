"""One row of the benchmarks' table, and the table."""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version

from rich.console import Console
from rich.table import Table


@dataclass(frozen=True, slots=True)
class Figure:
    """A measured value, what it is compared with in the same run, and the goal for their ratio or for the value."""

    name: str
    value: str
    baseline: str = ""
    ratio: float | None = None
    goal: str = ""

    def cells(self) -> tuple[str, ...]:
        """The row's text."""
        return self.name, self.value, self.baseline, "" if self.ratio is None else f"{self.ratio:.2f}", self.goal


def print_machine() -> None:
    """Print what the figures that follow were measured with."""
    libraries = " · ".join(f"{name} {version(name)}" for name in ("torch", "ray", "qdrant-edge-py", "pydicom"))
    Console(highlight=False).print(f"{os.cpu_count()} cores · Python {platform.python_version()} · {libraries}")


def print_figures(figures: Sequence[Figure]) -> None:
    """Print the table, wide enough for a log file."""
    table = Table("figure", "value", "baseline", "ratio", "goal", box=None, pad_edge=False)
    for figure in figures:
        table.add_row(*figure.cells())
    Console(highlight=False, width=150).print(table)
