from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from index.ledger import FileKey, FileRecord, Ledger, State
from index.roots import Archive, Root, number_roots
from workers.indexing.labels import label_reader
from workers.indexing.planning import PendingFile, Plan, plan_files, windows


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("liver/1", "liver/2", "brain/1", "top"):
        path = tmp_path / "archive" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    return tmp_path / "archive"


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    opened = Ledger(tmp_path)
    yield opened
    opened.close()


def walk(folder: Path, ledger: Ledger, **settings: object) -> tuple[list[PendingFile], Plan]:
    plan = Plan()
    files = list(plan_files([Root(0, str(folder))], ledger, plan, **settings))  # type: ignore[arg-type] # its own settings
    return files, plan


def enter(ledger: Ledger, files: list[PendingFile], state: State = "indexed") -> None:
    ledger.put([FileRecord(f.key, f.size, f.mtime_ns, state, f.label, ()) for f in files])


def gone_files(plan: Plan) -> tuple[FileKey, ...]:
    assert plan.gone is not None, "the walk has not come to its end"
    return plan.gone.files


def test_only_new_changed_and_half_written_files_are_pending(folder: Path, ledger: Ledger) -> None:
    files, plan = walk(folder, ledger)
    assert (plan.new, plan.changed, plan.unchanged, plan.finished) == (4, 0, 0, True)
    assert plan.bytes_pending == sum(file.size for file in files)
    assert {file.address for file in files} == {str(path) for path in folder.rglob("*") if path.is_file()}
    enter(ledger, files)
    assert walk(folder, ledger)[0] == []

    os.utime(folder / "liver" / "1", ns=(1, 1))
    (folder / "liver" / "3").write_text("new")
    enter(ledger, [file for file in files if file.key.path == "brain/1"], "writing")
    again, plan = walk(folder, ledger)
    assert sorted(file.key.path for file in again) == ["brain/1", "liver/1", "liver/3"]
    assert (plan.new, plan.changed, plan.unchanged) == (1, 2, 2)


def test_files_left_out_before_are_counted_and_retried_on_demand(folder: Path, ledger: Ledger) -> None:
    files, _ = walk(folder, ledger)
    enter(ledger, files, "left out")
    none, plan = walk(folder, ledger)
    assert (none, plan.unchanged, plan.left_out_before) == ([], 4, 4)
    assert len(walk(folder, ledger, retry_left_out=True)[0]) == 4


def test_gone_files_and_directories(folder: Path, ledger: Ledger) -> None:
    enter(ledger, walk(folder, ledger)[0])
    (folder / "liver" / "1").unlink()
    (folder / "brain" / "1").unlink()
    (folder / "brain").rmdir()
    plan = walk(folder, ledger)[1]
    assert sorted(key.path for key in gone_files(plan)) == ["brain/1", "liver/1"]


def test_what_cannot_be_looked_at_is_not_gone(folder: Path, ledger: Ledger) -> None:
    enter(ledger, walk(folder, ledger)[0])
    (folder / "liver" / "1").unlink()
    (folder / "liver" / "1").symlink_to("absent")
    plan = walk(folder, ledger)[1]
    assert list(plan.unreadable) == [str(folder / "liver" / "1")]
    assert gone_files(plan) == ()


def test_another_label_means_changed_and_none_means_the_old_one(folder: Path, ledger: Ledger, tmp_path: Path) -> None:
    labels = label_reader("folder")
    files, _ = walk(folder, ledger, labels=labels)
    assert {file.key.path: file.label for file in files} == {
        "liver/1": "liver", "liver/2": "liver", "brain/1": "brain", "top": None,
    }  # fmt: skip
    enter(ledger, files)
    assert walk(folder, ledger)[0] == []
    (tmp_path / "labels.csv").write_text(
        "path,label\narchive/liver/1,spleen\narchive/liver/2,liver\narchive/brain/1,brain\n"
    )
    [changed] = walk(folder, ledger, labels=label_reader(str(tmp_path / "labels.csv")))[0]
    assert (changed.key.path, changed.label) == ("liver/1", "spleen")


def test_the_limit_counts_new_files(folder: Path, ledger: Ledger) -> None:
    files, plan = walk(folder, ledger, limit=2)
    assert (len(files), plan.pending, plan.finished) == (2, 2, False)
    enter(ledger, files)
    assert len(walk(folder, ledger, limit=2)[0]) == 2


def test_windows_hold_everything_once(folder: Path, ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    files, _ = walk(folder, ledger)
    monkeypatch.setattr("workers.indexing.planning.WINDOW_FILES", 3)
    assert [len(window) for window in windows(iter(files))] == [3, 1]
    assert [file for window in windows(iter(files)) for file in window] == files
    assert list(windows(iter([]))) == []


def test_an_error_of_the_walk_reaches_the_consumer(folder: Path, ledger: Ledger) -> None:
    def failing() -> Iterator[PendingFile]:
        yield walk(folder, ledger)[0][0]
        raise OSError("the share is gone")

    with pytest.raises(OSError, match="the share is gone"):
        list(windows(failing()))


def test_a_consumer_that_stops_early_ends_the_walk(
    folder: Path, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("workers.indexing.planning.WINDOW_FILES", 1)
    consumer = windows(iter(walk(folder, ledger)[0]))
    next(consumer)
    consumer.close()  # hangs if the thread does not end


def test_a_part_of_a_known_archive_is_no_second_archive(folder: Path, ledger: Ledger) -> None:
    names, roots = number_roots((), [Archive(str(folder))])
    assert (names, roots) == ((str(folder),), [Root(0, str(folder))])
    enter(ledger, walk(folder, ledger)[0])
    names, roots = number_roots(names, [Archive(f"{folder}/liver"), Archive(f"{folder}/brain/1")])
    assert names == (str(folder),)
    assert roots == [Root(0, str(folder), "liver"), Root(0, str(folder), "brain/1")]
    (folder / "liver" / "1").unlink()
    (folder / "top").unlink()
    plan = Plan()
    assert list(plan_files(roots, ledger, plan)) == []
    assert plan.unchanged == 2
    assert [key.path for key in gone_files(plan)] == ["liver/1"]  # and not what lies outside the parts


def test_what_lies_behind_an_unreadable_directory_is_not_gone(
    folder: Path, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "liver" / "deep").mkdir()
    (folder / "liver" / "deep" / "4").write_text("")
    enter(ledger, walk(folder, ledger)[0])
    scandir = os.scandir

    def denied(path: str) -> object:
        if path.endswith("liver"):
            raise PermissionError(13, "Permission denied")
        return scandir(path)

    monkeypatch.setattr("os.scandir", denied)
    plan = walk(folder, ledger)[1]
    assert gone_files(plan) == ()
    assert plan.unreadable == {str(folder / "liver"): "Permission denied"}


def test_folder_labels_are_taken_below_the_archive_that_was_named(folder: Path, ledger: Ledger) -> None:
    (folder / "organs" / "spleen").mkdir(parents=True)
    (folder / "organs" / "spleen" / "5").write_text("")
    names, roots = number_roots((str(folder),), [Archive(f"{folder}/organs")])
    assert names == (str(folder),)
    [file] = plan_files(roots, ledger, Plan(), labels=label_reader("folder"))
    assert (file.key.path, file.label) == ("organs/spleen/5", "spleen")


def test_an_archive_that_is_not_mounted_is_noticed(folder: Path, ledger: Ledger) -> None:
    enter(ledger, walk(folder, ledger)[0])
    for path in sorted(folder.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    plan = walk(folder, ledger)[1]
    assert plan.gone
    assert (len(plan.gone.files), plan.gone.empty) == (4, (str(folder),))


def test_an_archive_around_known_ones_leaves_them_to_their_own_roots(folder: Path, ledger: Ledger) -> None:
    names, roots = number_roots((), [Archive(f"{folder}/liver")])
    enter(ledger, list(plan_files(roots, ledger, Plan())))
    names, roots = number_roots(names, [Archive(str(folder))])
    assert names == (f"{folder}/liver", str(folder))
    plan = Plan()
    files = [file.key for file in plan_files(roots, ledger, plan)]
    assert [(key.root, key.path) for key in files] == [(1, "top"), (1, "brain/1")]
    assert (plan.unchanged, gone_files(plan)) == (2, ())


def test_members_of_a_known_root_are_parts_of_it_and_nothing_else_is_gone(folder: Path, ledger: Ledger) -> None:
    enter(ledger, walk(folder, ledger)[0])
    (folder / "liver" / "2").write_text("changed")
    (folder / "top").unlink()
    names, roots = number_roots((str(folder),), [Archive(f"{folder}/liver", ("1", "2", "absent"))])
    plan = Plan()
    [file] = plan_files(roots, ledger, plan)
    assert (names, file.key.path, plan.unchanged, gone_files(plan)) == ((str(folder),), "liver/2", 1, ())
    assert plan.unreadable == {f"{folder}/liver/absent": "No such file or directory"}


def test_listed_files_belong_to_the_deepest_root_that_holds_them(folder: Path) -> None:
    known = (str(folder), f"{folder}/liver")
    listed = Archive(str(folder.parent), ("archive/brain", "archive/liver/1", "archive/top", "elsewhere"))
    names, roots = number_roots(known, [listed])
    files = {(file.key.root, file.key.path) for file in plan_files(roots, None, Plan())}
    assert files == {(0, "brain/1"), (0, "top"), (1, "1")}
    assert names == (*known, str(folder.parent))  # for "elsewhere", which is named as missing


def test_three_levels_of_roots_are_walked_once_each(folder: Path, ledger: Ledger) -> None:
    known = (f"{folder}/liver", str(folder))
    _, roots = number_roots(known, [Archive(str(folder.parent))])
    files = [(file.key.root, file.key.path) for file in plan_files(roots, None, Plan()) if "ledger" not in file.address]
    assert sorted(files) == [(0, "1"), (0, "2"), (1, "brain/1"), (1, "top")]


def test_an_archive_is_not_empty_while_a_root_inside_it_has_files(folder: Path, ledger: Ledger) -> None:
    names, roots = number_roots((), [Archive(f"{folder}/liver"), Archive(str(folder))])
    enter(ledger, list(plan_files(roots, ledger, Plan())))
    (folder / "top").unlink()
    (folder / "brain" / "1").unlink()
    plan = Plan()
    assert list(plan_files(number_roots(names, [Archive(str(folder))])[1], ledger, plan)) == []
    assert plan.gone
    assert (len(plan.gone.files), plan.gone.empty) == (2, ())


def test_a_flat_archive_that_is_not_mounted_is_noticed(tmp_path: Path, ledger: Ledger) -> None:
    (tmp_path / "flat").mkdir()
    (tmp_path / "flat" / "1").write_text("x")
    enter(ledger, walk(tmp_path / "flat", ledger)[0])
    (tmp_path / "flat" / "1").unlink()
    gone = walk(tmp_path / "flat", ledger)[1].gone
    assert gone
    assert gone.empty == (str(tmp_path / "flat"),)
