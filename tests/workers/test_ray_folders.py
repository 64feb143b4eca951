"""A job where TMPDIR is none for sockets and the home cannot be written: on a read-only root, under Slurm."""

from __future__ import annotations

import os
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
    temporary = tmp_path / ("long" * 25) / "ü"
    temporary.mkdir(parents=True)
    command = [program, "index", archive / "eye", "--index", tmp_path / "index", "--model", model_path]
    there = {**os.environ, "HOME": "/proc", "TMPDIR": os.path.relpath(temporary, tmp_path)}
    for name in ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH", "RAY_TMPDIR"):
        there.pop(name, None)
    words = [*map(str, command), "--actors", "1:1", "--cpus", "2"]
    done = subprocess.run(words, cwd=tmp_path, env=there, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "4 files indexed as 4 points" in done.stdout
