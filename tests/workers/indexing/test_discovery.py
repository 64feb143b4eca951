from __future__ import annotations

import io
import os
import tarfile
import zipfile
from pathlib import Path

import pytest

from index.roots import Root
from model.images.sources import join, open_source
from workers.indexing.discovery import FOLDER_LINK, discover


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


NAMES = ("/abs/1", "/2", "same", "same/3", "./4", "x//y", "http://h/5", "C:/6", "C:\\7", "../8", "usual/9")


@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_no_entry_of_an_archive_vanishes(tmp_path: Path, kind: str) -> None:
    packed = tmp_path / f"odd.{kind}"
    if kind == "zip":
        with zipfile.ZipFile(packed, "w") as file:
            for name in NAMES:
                file.writestr(name, f"content of {name}")
    else:
        with tarfile.open(packed, "w") as tar:
            for name in NAMES:
                info = tarfile.TarInfo(name)
                info.size = len(f"content of {name}")
                tar.addfile(info, io.BytesIO(f"content of {name}".encode()))
            link = tarfile.TarInfo("link")
            link.type, link.linkname = tarfile.SYMTYPE, "same"
            tar.addfile(link)
    root = Root(0, f"{kind}://::{packed}")
    found: dict[str, str] = {}
    unreadable: dict[str, str] = {}
    for directory in discover(root):
        for one in directory.files:
            path = f"{directory.path}/{one.name}" if directory.path else one.name
            with open_source(join(root.address, path), lambda _: True) as source:
                found[path] = (source.content or b"").decode()
        unreadable |= directory.unreadable
    assert found == {name: f"content of {name}" for name in NAMES}
    assert list(unreadable) == (["link"] if kind == "tar" else [])


def test_a_link_to_a_folder_elsewhere_is_named(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "archive" / "inner").mkdir(parents=True)
    (tmp_path / "archive" / "link").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "archive" / "inside").symlink_to(tmp_path / "archive" / "inner")
    [top, _] = discover(Root(0, str(tmp_path / "archive")))
    assert top.unreadable == {"link": FOLDER_LINK}
