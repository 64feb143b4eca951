from __future__ import annotations

import io
import sys

import pytest

from cli.console import noise_aside


def test_our_own_lines_are_written_as_standard_error_writes_them(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    terminal = io.TextIOWrapper(io.BytesIO(), encoding="latin-1", errors="backslashreplace")
    monkeypatch.setattr(sys, "stderr", terminal)
    with noise_aside("Ray"):
        print("模", file=sys.stderr)
    assert capfd.readouterr().err == "\\u6a21\n"
