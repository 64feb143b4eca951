"""One row of the benchmarks' table."""

from __future__ import annotations

from dataclasses import dataclass


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
