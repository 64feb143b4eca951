"""Streams of progress, recorded of real commands, and played again on terminals of every kind.

``python -m tests.support.recordings record NAME ARGUMENTS…`` runs ``cbmir ARGUMENTS`` and keeps what it told its
progress lines, and when, in ``tests/support/recordings/NAME.json``. ``python -m tests.support.recordings play NAME
[SECONDS]`` tells the same to the same lines, in so many seconds.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cli.app import run
from cli.console import errors, open_standard_streams
from cli.rendering.progress import StageProgress

FOLDER = Path(__file__).with_suffix("")

METHODS = ("update", "wait", "note")

MOST_EVENTS = 100
"""Of a long stream so many are kept, evenly, and its last."""


def recordings() -> list[str]:
    """The names of all."""
    return sorted(path.stem for path in FOLDER.glob("*.json"))


def record(name: str, arguments: list[str]) -> int:
    """Run a command and keep what its progress lines are told; return its exit code."""
    events: list[tuple[float, str, list[Any]]] = []
    started = time.monotonic()

    def watched(method: str, original: Callable[..., None]) -> Callable[..., None]:
        def tell(self: StageProgress, *values: Any) -> None:
            events.append((round(time.monotonic() - started, 2), method, list(values)))
            original(self, *values)

        return tell

    for method in METHODS:
        setattr(StageProgress, method, watched(method, getattr(StageProgress, method)))
    code = run(arguments)
    step = max(1, len(events) // MOST_EVENTS)
    always = {number for number, event in enumerate(events) if event[1] != "update"} | {len(events) - 1}
    always |= set({values[0]: number for number, (_, _, values) in enumerate(events)}.values())  # the last of each
    kept = [event for number, event in enumerate(events) if number % step == 0 or number in always]
    lines = ",\n".join(json.dumps(event, ensure_ascii=False) for event in kept)
    FOLDER.mkdir(exist_ok=True)
    (FOLDER / f"{name}.json").write_text(f"[\n{lines}\n]\n", encoding="utf-8")
    return code


def play(name: str, seconds: float) -> None:
    """Tell progress lines what they were told when it was recorded."""
    events = json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))
    first, last = events[0][0], events[-1][0]
    started = time.monotonic()
    with StageProgress() as progress:
        for at, method, values in events:
            due = started + seconds * (at - first) / max(last - first, 0.01)
            time.sleep(max(0.0, due - time.monotonic()))
            getattr(progress, method)(*values)
        time.sleep(max(0.0, started + seconds - time.monotonic()))


if __name__ == "__main__":
    open_standard_streams()
    task, name, *rest = sys.argv[1:]
    if task == "record":
        sys.exit(record(name, rest))
    try:
        play(name, float(rest[0]) if rest else 2.0)
    except KeyboardInterrupt:
        errors.show("interrupted")
        sys.exit(130)
