"""What real commands told their progress lines, on terminals of every width and kind."""

from __future__ import annotations

import json
import sys
from contextlib import ExitStack
from typing import Any

import pytest

from tests.support.recordings import FOLDER, recordings
from tests.support.terminal import Terminal, assert_clean

KINDS: dict[str, dict[str, Any]] = {
    "40 columns": {"columns": 40},
    "80 columns": {"columns": 80},
    "dumb": {"environment": {"TERM": "dumb"}},
    "C locale": {"environment": {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}},
    "Ctrl-C": {},
}

ONCE: dict[str, dict[str, Any]] = {
    "200 columns": {"columns": 200},
    "without colours": {"environment": {"NO_COLOR": "1"}},
    "Latin-1": {"environment": {"PYTHONIOENCODING": "iso-8859-1"}},
}
"""What depends on the terminal alone is seen by one recording."""

BAR = 24


@pytest.mark.parametrize("name", recordings())
def test_progress_can_be_read_on_every_terminal(name: str) -> None:
    events = json.loads((FOLDER / f"{name}.json").read_text())
    stages = {values[0]: values[1] for _, method, values in events if method == "update"}
    waits = [values[0] for _, method, values in events if method == "wait"]
    command = [sys.executable, "-m", "tests.support.recordings", "play", name]
    with ExitStack() as stack:
        # All at once, as each of them mostly sleeps.
        terminals = {
            kind: stack.enter_context(Terminal([*command, "30" if kind == "Ctrl-C" else "1"], **settings))
            for kind, settings in (KINDS | (ONCE if name == "index" else {})).items()
        }
        interrupted = terminals.pop("Ctrl-C")
        for kind, terminal in terminals.items():
            assert terminal.finish() == 0, kind
            assert_clean(terminal)
            for stage, done in stages.items():
                lines = [line for line in terminal.lines if line.strip().startswith(stage)]
                assert lines, (kind, stage, terminal.text)
                # A live line is drawn over, so that one is left of it; a plain one is printed again.
                assert len(lines) == 1 or kind == "dumb", (kind, terminal.text)
                assert f"{done:,}" in lines[-1], (kind, lines)
                if kind in {"80 columns", "200 columns", "without colours"}:
                    assert lines[-1].count("━") == BAR, (kind, lines)
                if kind in {"C locale", "Latin-1"}:
                    assert lines[-1].isascii(), (kind, lines)
            if kind == "dumb":
                assert all(what in terminal.flat for what in waits)
                assert b"\x1b" not in terminal.written
            assert all(len(line) <= terminal.columns for line in terminal.lines)
        interrupted.wait_for(str(events[0][2][0])[:20])
        interrupted.type("\x03")
        assert interrupted.finish(20) == 130
        assert_clean(interrupted)
        assert interrupted.lines[-1] == "Error: interrupted"
