from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from index.address import parse_address
from index.opening import create_index
from tests.index.conftest import describe


def test_help_loads_nothing_heavy() -> None:
    script = (
        "import sys\nfrom cli.app import run\nassert run(['--help']) == 0\n"
        "heavy = {'ray', 'torch', 'numpy', 'pydicom', 'pandas', 'qdrant_edge', 'qdrant_client'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    result = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True)
    assert result.stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize("command", ["train", "index", "search", "status"])
def test_every_option_can_come_from_the_environment(command: str) -> None:
    import typer

    from cli.app import app

    options = typer.main.get_command(app).commands[command].params  # type: ignore[attr-defined] # a group
    for option in options:
        if option.param_type_name == "option":
            name = max(option.opts, key=len).lstrip("-").replace("-", "_").upper()
            assert option.envvar == f"CBMIR_{name}"


def test_the_environment_is_really_read(
    cbmir: Callable[..., int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    create_index(parse_address(tmp_path / "index"), describe(), purpose="test").close()
    monkeypatch.setenv("CBMIR_INDEX", str(tmp_path / "index"))
    assert cbmir("status") == 0
    assert "fcl1" in capsys.readouterr().out


def test_errors_are_one_sentence_and_debug_shows_more(
    cbmir: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from model.errors import NotAnIndexError

    assert cbmir("status", "--index", tmp_path / "absent") == 1
    text = capsys.readouterr().err
    assert text.startswith("Error: ")
    assert "absent does not exist" in text
    assert "Traceback" not in text
    with pytest.raises(NotAnIndexError):
        cbmir("--debug", "status", "--index", tmp_path / "absent")
    assert cbmir("status", "--no-such-option") == 2
    assert "No such option: --no-such-option" in capsys.readouterr().err
    assert cbmir("search") == 2


def test_ctrl_c_that_python_has_wrapped_is_an_interruption(
    cbmir: Callable[..., int], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    def cut_off(*_: object, **__: object) -> None:
        raise RuntimeError("Error calling __set_name__") from KeyboardInterrupt()

    monkeypatch.setattr("index.opening.describe_index", cut_off)
    assert cbmir("search", "--like", "00000000", "--index", tmp_path) == 130
    assert capsys.readouterr().err.strip() == "Error: interrupted"


def test_completion_knows_organs_and_layers(program: Path, tmp_path: Path) -> None:
    create_index(parse_address(tmp_path / "index"), describe(), purpose="test").close()

    def complete(*words: str) -> list[str]:
        environment = {
            **os.environ,
            "_CBMIR_COMPLETE": "complete_bash",
            "COMP_WORDS": " ".join(["cbmir", *words]),
            "COMP_CWORD": str(len(words)),
            "CBMIR_INDEX": str(tmp_path / "index"),
        }
        return subprocess.run([program], env=environment, check=False, capture_output=True, text=True).stdout.split()

    assert complete("search", "--organ", "") == ["brain", "chest", "knee", "unknown"]
    assert complete("search", "--layer", "f") == ["fcl1", "fcl2", "fcl3"]
    assert complete("search", "--format", "") == ["table", "json", "csv"]


@pytest.mark.parametrize("arguments", [(), ("model",), ("dataset",)])
def test_no_command_shows_the_help_and_no_error(
    cbmir: Callable[..., int], arguments: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    assert cbmir(*arguments) == 2
    shown = capsys.readouterr()
    assert "Usage" in shown.out
    assert "Error" not in shown.err


def test_a_place_without_permission_is_named(
    cbmir: Callable[..., int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(self: Path) -> bool:
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(Path, "is_dir", refuse)
    assert cbmir("status", "--index", tmp_path / "closed") == 1
    text = capsys.readouterr().err
    assert "closed may not be read or written" in " ".join(text.split())
    assert "fault of this program" not in text
