"""Zip and tar files among the files of a folder are walked as folders are, one level deep; nothing of them vanishes."""

from __future__ import annotations

import io
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import pytest
from PIL import Image

from index.home.key import path_hider
from index.ledger import FileKey, FileRecord, Ledger
from index.roots import Archive, Root, number_roots, parts_of
from model.errors import ImageError, Reason
from model.images.reading import read_frames
from tests.workers.indexing.test_discovery import NAMES
from workers.indexing.archives import resolve_archives
from workers.indexing.labels import label_reader, refuse_unmatched_labels
from workers.indexing.planning import PendingFile, Plan, plan_files


def png(value: int) -> bytes:
    content = io.BytesIO()
    Image.new("L", (8, 8), value).save(content, format="PNG")
    return content.getvalue()


def write_zip(path: Path, members: dict[str, bytes]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w") as packed:
        for name, content in members.items():
            packed.writestr(name, content)


def write_tar(path: Path, members: dict[str, bytes], mode: str = "w") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, mode) as packed:  # type: ignore[call-overload] # the mode is a literal there
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            packed.addfile(info, io.BytesIO(content))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "scans"
    write_zip(root / "2024" / "liver.zip", {"1.png": png(1), "deep/er/2.png": png(2)})
    write_tar(root / "old.tar.gz", {"./3.png": png(3), "deep/4.png": png(4)}, "w:gz")
    write_tar(root / "Old.TAR", {"5.png": png(5)})
    (root / "6.png").write_bytes(png(6))
    return root


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    opened = Ledger(tmp_path)
    yield opened
    opened.close()


def walk(
    *named: Path | str, ledger: Ledger | None = None, names: tuple[str, ...] = (), **settings: Any
) -> tuple[list[PendingFile], Plan]:
    plan = Plan()
    _, roots = number_roots(names, resolve_archives(named))
    return list(plan_files(roots, ledger, plan, **settings)), plan


def shades(files: list[PendingFile]) -> list[int]:
    """The grey of every file that can be read: each has another one."""
    return sorted(int(frame.pixels[0, 0]) for file in files for frame in read_frames(file.address))


def enter(ledger: Ledger, files: list[PendingFile]) -> None:
    ledger.put([FileRecord(f.key, f.size, f.mtime_ns, "indexed", f.label, ()) for f in files])


def gone(plan: Plan) -> tuple[FileKey, ...]:
    assert plan.gone is not None
    return plan.gone.files


def test_members_are_files_of_the_folder(folder: Path) -> None:
    files, plan = walk(folder)
    assert shades(files) == [1, 2, 3, 4, 5, 6]
    assert plan.unreadable == {}
    assert {file.address for file in files} == {
        f"zip://1.png::{folder}/2024/liver.zip",
        f"zip://deep/er/2.png::{folder}/2024/liver.zip",
        f"tar://./3.png::{folder}/old.tar.gz",
        f"tar://deep/4.png::{folder}/old.tar.gz",
        f"tar://5.png::{folder}/Old.TAR",
        f"{folder}/6.png",
    }
    for file in files:
        directory, _, name = file.key.path.rpartition("/")
        assert FileKey(0, directory, name) == file.key, "a path is split everywhere at its last slash"


def test_a_later_walk_finds_what_has_changed_inside(folder: Path, ledger: Ledger) -> None:
    enter(ledger, walk(folder, ledger=ledger)[0])
    again, plan = walk(folder, ledger=ledger)
    assert (again, plan.unchanged, gone(plan)) == ([], 6, ())
    write_zip(folder / "2024" / "liver.zip", {"1.png": png(1), "7.png": png(7)})
    (folder / "Old.TAR").unlink()
    changed, plan = walk(folder, ledger=ledger)
    assert shades(changed) == [7]
    assert {key.path for key in gone(plan)} == {"2024/liver.zip//deep/er/2.png", "Old.TAR//5.png"}


def test_what_only_has_the_name_is_a_file_like_any_other(folder: Path, ledger: Ledger) -> None:
    enter(ledger, walk(folder, ledger=ledger)[0])
    packed = folder / "2024" / "liver.zip"
    packed.write_bytes(png(9))
    files, plan = walk(folder, ledger=ledger)
    assert (shades(files), plan.unreadable) == ([9], {})
    assert gone(plan) == (), "what was in it may be in it again"
    whole = io.BytesIO()
    with zipfile.ZipFile(whole, "w") as again:
        again.writestr("1.png", png(1))
    packed.write_bytes(whole.getvalue()[:-30])
    files, plan = walk(folder, ledger=ledger)
    assert ([file.key.path for file in files], gone(plan)) == (["2024/liver.zip"], ())
    with pytest.raises(ImageError, match="a zip file that is damaged, or cut off"):
        list(read_frames(packed))


@pytest.mark.parametrize("damage", ["header", "cut"])
def test_an_archive_file_that_ends_too_soon_loses_nothing(tmp_path: Path, ledger: Ledger, damage: str) -> None:
    packed = tmp_path / "scans" / "t.tar"
    write_tar(packed, {f"{number}.png": png(number) for number in range(5)})
    enter(ledger, walk(packed.parent, ledger=ledger)[0])
    content = bytearray(packed.read_bytes())
    third = next(at for at in range(0, len(content), 512) if content[at : at + 5] == b"2.png")
    content[third + 148] ^= 1
    packed.write_bytes(content if damage == "header" else content[:third])
    files, plan = walk(packed.parent, ledger=ledger)
    assert (files, plan.unchanged, gone(plan)) == ([], 2, ())
    [why] = plan.unreadable.values()
    assert why == "it cannot be unpacked: it is damaged, or cut off, behind its last entry"


def test_of_one_name_the_last_entry_counts_and_once(tmp_path: Path, ledger: Ledger) -> None:
    packed = tmp_path / "scans" / "t.tar"
    write_tar(packed, {"a.png": png(1)})
    with tarfile.open(packed, "a") as more:
        info = tarfile.TarInfo("a.png")
        info.size = len(png(2))
        more.addfile(info, io.BytesIO(png(2)))
    files, _ = walk(packed.parent, ledger=ledger)
    assert shades(files) == [2]
    enter(ledger, files)
    assert walk(packed.parent, ledger=ledger)[0] == []


def test_members_come_in_the_order_of_their_archive_file(tmp_path: Path) -> None:
    names = ["z/9.png", "z/1.png", "a/5.png", "a/2.png"]
    write_tar(tmp_path / "scans" / "t.tgz", {name: png(1) for name in names}, "w:gz")
    assert [file.address.partition("::")[0] for file in walk(tmp_path / "scans")[0]] == [f"tar://{n}" for n in names]


@pytest.mark.parametrize("hide", [str, path_hider(b"key" * 11)])
def test_a_named_archive_file_says_nothing_of_its_neighbours(folder: Path, ledger: Ledger, hide: Any) -> None:
    (folder / "2024" / "x.png").write_bytes(png(8))
    enter(ledger, walk(folder, ledger=ledger, hide=hide)[0])
    _, roots = number_roots((str(folder),), resolve_archives([folder / "2024" / "liver.zip"]))
    plan = Plan()
    assert list(plan_files(roots, ledger, plan, hide=hide)) == []
    assert (plan.unchanged, gone(plan)) == (2, ())


def test_one_without_files_is_named(folder: Path) -> None:
    write_zip(folder / "empty.zip", {})
    assert walk(folder)[1].unreadable == {f"{folder}/empty.zip": "an archive file without any file in it"}


@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_no_entry_vanishes_whatever_it_is_called(tmp_path: Path, ledger: Ledger, kind: str) -> None:
    members = {name: png(number) for number, name in enumerate(NAMES)}
    (write_zip if kind == "zip" else write_tar)(tmp_path / "scans" / f"odd.{kind}", members)
    files, plan = walk(tmp_path / "scans", ledger=ledger)
    assert shades(files) == list(range(len(NAMES)))
    assert plan.unreadable == {}
    enter(ledger, files)
    again, plan = walk(tmp_path / "scans", ledger=ledger)
    assert (again, gone(plan)) == ([], ())
    for file in files:
        directory, _, name = file.key.path.rpartition("/")
        assert FileKey(0, directory, name) == file.key


def test_archives_in_archives_and_of_other_kinds_are_named_with_what_to_do(folder: Path) -> None:
    inner = io.BytesIO()
    with zipfile.ZipFile(inner, "w") as packed:
        packed.writestr("x.png", png(9))
    tar = io.BytesIO()
    with tarfile.open(fileobj=tar, mode="w:gz") as more:
        more.addfile(tarfile.TarInfo("empty"))
    write_zip(folder / "2024" / "liver.zip", {"in.zip": inner.getvalue(), "in.tar.gz": tar.getvalue()})
    (folder / "a.7z").write_bytes(b"7z\xbc\xaf\x27\x1c" + bytes(100))
    (folder / "disk.iso").write_bytes(bytes(32_769) + b"CD001" + bytes(100))
    (folder / "bundle").write_bytes(inner.getvalue())
    why = {}
    for file in walk(folder)[0]:
        try:
            list(read_frames(file.address))
        except ImageError as error:
            why[file.key.path] = error.detail
    assert why == {
        "2024/liver.zip//in.zip": "a zip file in an archive file: unpack that, and index the folder",
        "2024/liver.zip//in.tar.gz": "a tar file in an archive file: unpack that, and index the folder",
        "a.7z": "a 7z file: unpack it, and index the folder",
        "disk.iso": "a disk image: unpack it, and index the folder",
        "bundle": "a zip file by its content and not by its name: "
        "name it as an archive of its own to index what is in it",
    }


def test_they_can_be_left_alone(folder: Path, ledger: Ledger) -> None:
    files = list(plan_files([Root(0, str(folder), nested=False)], None, Plan()))
    assert sorted(file.key.path for file in files) == ["2024/liver.zip", "6.png", "Old.TAR", "old.tar.gz"]
    enter(ledger, walk(folder, ledger=ledger)[0])
    plan = Plan()
    list(plan_files([Root(0, str(folder), nested=False)], ledger, plan))
    assert gone(plan) == (), "what was indexed of them is not lost either"
    with pytest.raises(ImageError, match="a zip file, which --no-nested leaves alone"):
        list(read_frames(folder / "2024" / "liver.zip"))


def test_a_named_archive_file_is_a_part_of_the_root_that_holds_it(folder: Path, ledger: Ledger) -> None:
    packed = folder / "2024" / "liver.zip"
    enter(ledger, walk(folder, ledger=ledger)[0])
    write_zip(packed, {"1.png": png(1), "8.png": png(8)})
    names, roots = number_roots((str(folder),), resolve_archives([packed]))
    assert (names, [(root.number, root.below) for root in roots]) == ((str(folder),), [(0, "2024/liver.zip")])
    plan = Plan()
    assert shades(list(plan_files(roots, ledger, plan))) == [8]
    assert {key.path for key in gone(plan)} == {"2024/liver.zip//deep/er/2.png"}
    [part] = parts_of((str(folder),), str(packed))
    assert part.covers("2024/liver.zip//deep/er")
    assert part.covers("2024/liver.zip/")


def test_an_archive_file_that_is_a_root_is_not_walked_twice(folder: Path) -> None:
    packed = folder / "2024" / "liver.zip"
    names, _ = number_roots((), resolve_archives([packed]))
    files, _ = walk(folder, names=names)
    assert shades(files) == [1, 2, 3, 4, 5, 6]
    assert {file.key.root for file in files if "liver" in file.address} == {0}
    assert shades(walk(packed, folder)[0]) == shades(walk(folder, packed)[0]) == [1, 2, 3, 4, 5, 6]


def test_lists_and_globs_name_them_too(folder: Path) -> None:
    assert shades(walk(f"{folder}/2024/*.zip")[0]) == [1, 2]
    _, roots = number_roots((), [Archive(str(folder), ("2024/liver.zip", "6.png"))])
    assert shades(list(plan_files(roots, None, Plan()))) == [1, 2, 6]


def test_a_list_finds_an_archive_file_that_is_a_root(folder: Path) -> None:
    packed = folder / "2024" / "liver.zip"
    names, _ = number_roots((), resolve_archives([packed]))
    for listed in ([f"{folder}/2024/*"], [Archive(str(folder), ("2024/liver.zip",))]):
        _, roots = number_roots(names, resolve_archives(listed))
        files = list(plan_files(roots, None, Plan()))
        assert (shades(files), {file.key.root for file in files}) == ([1, 2], {0})


def test_a_bad_member_is_named_without_its_name(folder: Path) -> None:
    packed = folder / "2024" / "liver.zip"
    write_zip(packed, {"Doe^John\\1.png": png(1)})
    content = bytearray(packed.read_bytes())
    content[content.index(b"IHDR") + 20] ^= 1
    packed.write_bytes(content)
    [file] = [file for file in walk(folder)[0] if "liver" in file.address]
    with pytest.raises(ImageError) as caught:
        list(read_frames(file.address))
    assert (caught.value.reason, caught.value.detail) == (
        Reason.CORRUPT,
        "it cannot be unpacked: it is damaged in the zip file",
    )


def test_labels_of_members(folder: Path, tmp_path: Path) -> None:
    write_zip(folder / "knee.zip", {"a.png": png(7)})
    by_folder = {file.key.path: file.label for file in walk(folder, labels=label_reader("folder"))[0]}
    assert (by_folder["knee.zip//a.png"], by_folder["2024/liver.zip//1.png"]) == ("knee", "2024")
    manifest = tmp_path / "labels.csv"
    manifest.write_text("path,label\nscans/2024/liver.zip/deep/er/2.png,liver\n")
    refuse_unmatched_labels(str(manifest), [Archive(str(folder))])
    labels = {file.key.path: file.label for file in walk(folder, labels=label_reader(str(manifest)))[0] if file.label}
    assert labels == {"2024/liver.zip//deep/er/2.png": "liver"}


def test_hidden_paths_keep_an_archive_file_and_its_members_apart(folder: Path, ledger: Ledger) -> None:
    hide = path_hider(b"key" * 11)
    files, _ = walk(folder, ledger=ledger, hide=hide)
    assert shades(files) == [1, 2, 3, 4, 5, 6]
    assert not any("liver" in file.key.path or "png" in file.key.path for file in files)
    enter(ledger, files)
    again, plan = walk(folder, ledger=ledger, hide=hide)
    assert (again, gone(plan)) == ([], ())


def test_archive_files_in_a_bucket(folder: Path) -> None:
    system = fsspec.filesystem("memory")
    try:
        for path in folder.rglob("*"):
            if path.is_file():
                system.pipe_file(f"/bucket/{path.relative_to(folder)}", path.read_bytes())
        assert shades(walk("memory://bucket/2024/liver.zip")[0]) == [1, 2]
        files, plan = walk("memory://bucket")
        assert shades(files) == [1, 2, 3, 4, 5, 6]
        assert plan.unreadable == {}
    finally:
        system.store.clear()
        system.pseudo_dirs.clear()
