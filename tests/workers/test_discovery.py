from __future__ import annotations

import os
from pathlib import Path

from workers.discovery import Root, discover


def test_every_file_is_found_once_in_order(tmp_path: Path) -> None:
    for name in ("b/2", "b/1", "a/x/3", ".hidden", "c.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    found = [
        (directory.path, [file.name for file in directory.files]) for directory in discover(Root(0, str(tmp_path)))
    ]
    assert found == [("", [".hidden", "c.txt"]), ("a", []), ("a/x", ["3"]), ("b", ["1", "2"])]
    sizes = {file.name: file.size for directory in discover(Root(0, str(tmp_path))) for file in directory.files}
    assert sizes["3"] == 5


def test_links_to_files_are_followed_and_circles_are_not(tmp_path: Path) -> None:
    (tmp_path / "real").write_text("x")
    (tmp_path / "link").symlink_to(tmp_path / "real")
    (tmp_path / "broken").symlink_to(tmp_path / "absent")
    (tmp_path / "circle").symlink_to(tmp_path)
    [directory] = discover(Root(0, str(tmp_path)))
    assert [file.name for file in directory.files] == ["link", "real"]
    assert set(directory.unreadable) == {"broken"}


def test_what_is_no_regular_file_is_named(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    [directory] = discover(Root(0, str(tmp_path)))
    assert directory.unreadable == {"pipe": "no regular file"}


def test_a_file_is_a_root_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "one.dcm").write_text("xyz")
    [directory] = discover(Root(0, str(tmp_path / "one.dcm")))
    assert [(file.name, file.size) for file in directory.files] == [("", 3)]


def test_skipped_and_vanished_directories(tmp_path: Path) -> None:
    for name in ("index/file", "archive/file"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_text("")
    paths = [
        directory.path for directory in discover(Root(0, str(tmp_path), skip=frozenset({str(tmp_path / "index")})))
    ]
    assert paths == ["", "archive"]
    walk = discover(Root(0, str(tmp_path)))
    next(walk)
    (tmp_path / "archive" / "file").unlink()
    (tmp_path / "archive").rmdir()
    assert "" in next(walk).unreadable


def test_names_that_are_not_utf_8_are_named(tmp_path: Path) -> None:
    (Path(os.fsdecode(bytes(tmp_path) + b"/M\xfcller.dcm"))).write_text("")
    (tmp_path / "fine.dcm").write_text("")
    [directory] = discover(Root(0, str(tmp_path)))
    assert [file.name for file in directory.files] == ["fine.dcm"]
    assert directory.unreadable == {"M\\udcfcller.dcm": "its name is not UTF-8"}


def test_members_that_are_gone_or_misnamed_are_named(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "1").write_text("x")
    bad = os.fsdecode(b"M\xfcller")
    found = list(discover(Root(0, str(tmp_path), members=("absent/2", bad, "sub"))))
    assert [(one.path, [file.name for file in one.files], one.unreadable) for one in found] == [
        ("absent", [], {"2": "No such file or directory"}),
        ("", [], {"M\\udcfcller": "its name is not UTF-8"}),
        ("sub", ["1"], {}),
    ]


def test_the_files_of_a_list_come_directory_by_directory(tmp_path: Path) -> None:
    for name in ("a/1", "a/x/3", "b"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    root = Root(0, str(tmp_path), members=("a/1", "a/2", "a/x/3", "b"))
    found = [(one.path, [file.name for file in one.files], set(one.unreadable)) for one in discover(root)]
    assert found == [("a", ["1"], {"2"}), ("a/x", ["3"], set()), ("", ["b"], set())]
