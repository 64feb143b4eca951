"""Ray's calls to actors, answered in this process: for tests of what is done with their failures."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

Call = Callable[[], Any]


class Actors:
    """Stands where the module ``ray`` has ``wait`` and ``get``; its actors' calls end as they are told to."""

    def __init__(self, ends: Call) -> None:
        self._ends = ends

    def actor(self) -> Any:
        """A handle; each call of a method of it is a new one."""
        return _Handle(self._ends)

    def wait(self, calls: Sequence[Call], **_options: Any) -> tuple[list[Call], list[Call]]:
        """All have ended."""
        return list(calls), []

    def get(self, call: Call) -> Any:
        """What it returns, or raises."""
        return call()


class _Handle:
    def __init__(self, ends: Call) -> None:
        self._ends = ends

    def __getattr__(self, _name: str) -> _Handle:
        return self

    def options(self, **_options: Any) -> _Handle:
        return self

    def remote(self, *_arguments: Any) -> Call:
        return partial(self._ends)  # each is another one
