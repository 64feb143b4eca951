"""A result that a person has is not replaced unless they say so, and it is said before any work is done."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date
from pathlib import Path

import pytest

from index.address import parse_address
from index.opening import create_index
from tests.index.conftest import describe, make_points


def test_what_is_there_is_refused_without_force(
    cbmir: Callable[..., int], archive: Path, model_path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    kept = tmp_path / "kept"
    for name in ("kept", "kept.png"):
        (tmp_path / name).write_text("of a person")
    (tmp_path / "report").mkdir()
    (tmp_path / "report" / "index.html").write_text("of a person")
    with create_index(parse_address(tmp_path / "index"), describe(), purpose="test") as index:
        index.upsert(make_points(3))
    (tmp_path / "plan.csv").write_text("of a person")
    for arguments in (
        ("train", archive, "--output", kept),
        ("model", "compress", model_path, archive, "--output", kept),
        ("dataset", "plan", "paper24", "--output", tmp_path / "plan.csv"),
        ("search", "--like", "00000000", "--index", tmp_path / "index", "--sheet", tmp_path / "kept.png"),
        ("evaluate", archive, "--model", model_path, "--report", tmp_path / "report"),
        ("cross-validate", archive, "--report", tmp_path / "report"),
        ("index", archive, "--index", tmp_path / "new", "--report", kept),
        ("inspect", next(archive.rglob("eye-000.dcm")), "--save", tmp_path / "kept.png"),
        ("backup", kept, "--index", tmp_path / "index"),
    ):
        assert cbmir(*arguments) == 2, arguments
        error = " ".join(capsys.readouterr().err.split())
        assert "is there already: name another, or replace it with --force" in error or "exists: name" in error
    assert not (tmp_path / "new").exists()
    for path in (kept, tmp_path / "kept.png", tmp_path / "report" / "index.html", tmp_path / "plan.csv"):
        assert path.read_text() == "of a person"
    picture = tmp_path / "kept.png"
    assert cbmir("inspect", next(archive.rglob("eye-000.dcm")), "--save", picture, "--force", "--no-prediction") == 0
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_a_model_is_called_after_what_it_is(archive: Path, tmp_path: Path) -> None:
    from cli.commands.train import default_name

    (tmp_path / "organs24").mkdir()
    (tmp_path / "organs24" / "manifest.csv").write_text("")
    today = f"{date.today():%Y%m%d}"  # noqa: DTZ011
    assert default_name(tmp_path / "organs24" / "manifest.csv", "fast") == f"organs24-fast-{today}.safetensors"
    assert default_name(tmp_path / "organs24", "paper") == f"organs24-paper-{today}.safetensors"
