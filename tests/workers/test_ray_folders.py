"""Where Ray puts its sockets and token if TMPDIR is none for sockets and the home cannot be written.

A job runs in such a place in ``tests/test_wheel.py``.
"""

from __future__ import annotations

import os
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
