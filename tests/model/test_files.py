from __future__ import annotations

import errno
import os
import stat
from contextlib import nullcontext
from pathlib import Path

import pytest

from model.files import written_whole


def test_the_old_file_stays_until_the_new_one_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    path.write_text("old")
    with written_whole(path) as partial:
        partial.write_text("new")
        assert path.read_text() == "old"
    assert path.read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]


def test_what_fails_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    path.write_text("old")

    def fail() -> None:
        with written_whole(path) as partial:
            partial.write_text("a part")
            raise OSError("the disk is full")

    with pytest.raises(OSError, match="the disk is full"):
        fail()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_what_a_killed_process_has_left_is_no_hindrance(tmp_path: Path) -> None:
    path = tmp_path / "key"
    path.with_name("key.partial").write_text("a part")
    path.with_name("key.partial").chmod(0o644)
    with written_whole(path, private=True) as partial:
        assert partial.stat().st_mode & 0o777 == 0o600
        partial.write_text("secret")
    assert path.read_text() == "secret"
    assert path.stat().st_mode & 0o777 == 0o600


def test_nothing_written_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), written_whole(tmp_path / "absent"):
        pass
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize(("number", "fails"), [(errno.EINVAL, False), (errno.EIO, True)])
def test_folders_that_cannot_be_flushed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, fails: bool
) -> None:
    """CIFS and some other network file systems refuse it; a disk that fails does, too."""
    flush = os.fsync

    def refuse(descriptor: int) -> None:
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(number, os.strerror(number))
        flush(descriptor)

    monkeypatch.setattr(os, "fsync", refuse)
    with (
        pytest.raises(OSError, match="Input/output error") if fails else nullcontext(),
        written_whole(tmp_path / "model") as partial,
    ):
        partial.write_text("weights")
    assert (tmp_path / "model").read_text() == "weights"
