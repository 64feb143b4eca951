"""A job where TMPDIR is none for sockets and the home cannot be written: on a read-only root, under Slurm."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from model.errors import JobError
from workers import ray_folders
from workers.ray_folders import temporary_folder, token


@pytest.mark.parametrize("name", ["long" * 30, "ünïcode"])
def test_a_folder_that_is_none_for_sockets_gives_way_to_a_short_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    (tmp_path / name).mkdir()
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path / name))
    assert temporary_folder() == Path("/tmp")


def test_a_relative_folder_is_meant_from_here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir("/var")
    monkeypatch.setenv("RAY_TMPDIR", "tmp")
    assert temporary_folder() == Path("/var/tmp")


def test_without_any_folder_the_sentence_says_what_to_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray_folders, "_SHORT", ())
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path / "absent"))
    with pytest.raises(JobError, match="set TMPDIR to one of at most 39 ASCII characters"):
        temporary_folder()


def test_a_token_is_kept_nowhere_if_the_home_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", "/proc")
    with token():
        assert len(os.environ["RAY_AUTH_TOKEN"]) == 64
    assert "RAY_AUTH_TOKEN" not in os.environ
    monkeypatch.setenv("HOME", str(tmp_path))
    with token():
        assert "RAY_AUTH_TOKEN" not in os.environ
    monkeypatch.setenv("RAY_AUTH_TOKEN", "a cluster's own")
    with token():
        assert os.environ["RAY_AUTH_TOKEN"] == "a cluster's own"


def test_a_job_runs_there(archive: Path, model_path: Path, tmp_path: Path, program: Path) -> None:
    """Also among a user's own modules, whose names are those of the program's packages, and without a dashboard."""
    home = tmp_path / "home"
    (home / "index").mkdir(parents=True)
    (home / "dl").mkdir()  # python-gdcm's import breaks on it when the working directory is on the path
    for name in ("model.py", "workers.py", "cli.py", "index/__init__.py"):
        (home / name).write_text("raise SystemExit('the user\\'s own module was imported')\n")
    shutil.copytree(archive / "eye", home / "eye")
    temporary = tmp_path / ("long" * 25) / "ü"
    temporary.mkdir(parents=True)
    there = {**os.environ, "HOME": "/proc", "TMPDIR": os.path.relpath(temporary, home)}
    there["RAY_DASHBOARD_STARTUP_TIMEOUT_S"] = "0"  # nobody has asked for one
    for name in ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH", "RAY_TMPDIR"):
        there.pop(name, None)

    def run(*arguments: str) -> str:
        words = [str(program), *arguments]
        done = subprocess.run(words, cwd=home, env=there, capture_output=True, text=True, check=False, timeout=180)
        assert done.returncode == 0, done.stderr
        assert "dashboard" not in done.stderr
        return done.stdout

    relative = os.path.relpath(model_path, home)
    index_it = ("index", "eye", "--index", "made", "--model", relative, "--actors", "1:1", "--cpus", "2")
    assert "4 files indexed as 4 points" in run(*index_it)
    found = run("search", "eye/eye-000.dcm", "--index", "made", "--no-class-prediction", "--runtime", "openvino")
    assert "eye-001.dcm" in found
