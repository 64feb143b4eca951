from __future__ import annotations

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
