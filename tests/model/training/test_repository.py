from __future__ import annotations

from collections import Counter
from pathlib import Path

import pandas as pd
import pytest

from model.errors import RepositoryError, SettingError
from model.training.repository import (
    LabelledFile,
    folds_by_group,
    listing_hash,
    read_repository,
    split_repository,
    split_test,
)


def folders(root: Path, **sizes: int) -> Path:
    for label, size in sizes.items():
        (root / label).mkdir()
        for number in range(size):
            (root / label / f"{number:03}").write_text("")
    return root


def test_one_folder_a_class(tmp_path: Path) -> None:
    files = read_repository(folders(tmp_path, liver=3, brain=2))
    assert Counter(file.label for file in files) == {"liver": 3, "brain": 2}
    assert [file.path for file in files] == sorted(file.path for file in files)


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_manifests(tmp_path: Path, kind: str) -> None:
    table = pd.DataFrame(
        {
            "path": ["a", "b", "c", "d"],
            "label": ["x", "x", "y", "y"],
            "split": ["train", "test"] * 2,
            "group": list("1234"),
        }
    )
    manifest = tmp_path / f"manifest.{kind}"
    if kind == "csv":
        table.to_csv(manifest, index=False)
    else:
        table.to_parquet(manifest)
    files = read_repository(manifest)
    assert files[0] == LabelledFile(tmp_path / "a", "x", "1", "train")
    assert [file.split for file in split_repository(files, seed=0)] == ["train", "test"] * 2


def test_the_split_is_stratified_seeded_and_30_percent(tmp_path: Path) -> None:
    files = read_repository(folders(tmp_path, liver=100, brain=200))
    split = split_repository(files, seed=3)
    parts = Counter((file.label, file.split) for file in split)
    assert parts["liver", "test"] == 30
    assert parts["brain", "test"] == 60
    assert parts["liver", "validation"] == 7
    assert split == split_repository(files, seed=3)
    assert split != split_repository(files, seed=4)


@pytest.mark.parametrize("share", [0.02, 0.05, 0.1, 0.15, 0.25, 0.3, 1 / 3, 0.35, 0.5, 0.8, 0.95])
def test_the_test_part_is_as_large_as_asked_for(share: float) -> None:
    files = [LabelledFile(Path(f"/{label}/{n}"), label, f"{label}{n // 2}") for label in "ab" for n in range(400)]
    parts = Counter(file.split for file in split_test(files, seed=0, share=share))
    assert parts["test"] / len(files) == pytest.approx(share, abs=0.02)


def test_groups_stay_together() -> None:
    files = [LabelledFile(Path(f"{n:03}"), "ab"[n % 2], group=f"patient {n // 4}") for n in range(400)]
    sides: dict[str, set[bool]] = {}
    for file in split_repository(files, seed=0):
        sides.setdefault(file.group, set()).add(file.split == "test")
    assert all(len(side) == 1 for side in sides.values())


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("path\na", "no column 'label'"),
        ("path,label\na,\n", "line 2: path or label is empty"),
        ("path,label,split\na,x,holdout\n", "'holdout' is none of"),
        ("path,label\na,x\nb,x\n", "only the class 'x'"),
    ],
)
def test_bad_manifests_are_named(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "manifest.csv").write_text(text)
    with pytest.raises(RepositoryError, match=message):
        read_repository(tmp_path / "manifest.csv")


def test_empty_and_missing_repositories(tmp_path: Path) -> None:
    with pytest.raises(RepositoryError, match="holds no files"):
        read_repository(tmp_path)
    with pytest.raises(RepositoryError, match="does not exist"):
        read_repository(tmp_path / "absent")


def test_leakage_and_impossible_splits_are_refused() -> None:
    def file(name: str, label: str, group: str, split: str | None) -> LabelledFile:
        return LabelledFile(Path(name), label, group, split)  # type: ignore[arg-type] # as a manifest gives it

    with pytest.raises(RepositoryError, match="group 'p1' is in the training and in the test part"):
        split_repository([file("a", "x", "p1", "train"), file("b", "x", "p1", "test")], seed=0)
    with pytest.raises(RepositoryError, match="has no split while others have"):
        split_repository([file("a", "x", "p1", "train"), file("b", "x", "p2", None)], seed=0)
    many = [file(f"x{n}", "x", f"{n}", None) for n in range(4)]
    with pytest.raises(RepositoryError, match="'y' are of one group"):
        split_repository([*many, *(file(f"y{n}", "y", "one", None) for n in range(4))], seed=0)
    with pytest.raises(RepositoryError, match="class 'y' has one image"):
        split_repository([*many, file("y", "y", "y", None)], seed=0)
    with pytest.raises(RepositoryError, match="file '/a' is in the training and in the test part"):
        split_repository([file("/a", "x", "p1", "train"), file("/a", "x", "p2", "test")], seed=0)
    with pytest.raises(SettingError, match="cannot be set aside"):
        split_repository(many, seed=0, validation=1.0)
    with pytest.raises(RepositoryError, match="class 'y' has no training image"):
        split_repository([file("a", "x", "1", "train"), file("b", "y", "2", "test")], seed=0)


def test_labels_and_paths_stay_as_they_are_written(tmp_path: Path) -> None:
    (tmp_path / "manifest.csv").write_text("path,label\n001,NA\n002,NA\n003,7\n004,7\n")
    files = read_repository(tmp_path / "manifest.csv")
    assert [(file.path.name, file.label) for file in files] == [
        ("001", "NA"),
        ("002", "NA"),
        ("003", "7"),
        ("004", "7"),
    ]


def test_a_tiny_class_does_not_distort_the_split(tmp_path: Path) -> None:
    parts = Counter(
        (f.label, f.split) for f in split_repository(read_repository(folders(tmp_path, a=200, b=3)), seed=0)
    )
    assert parts["a", "test"] == 60
    assert parts["a", "validation"] == pytest.approx(14, abs=2)
    assert parts["b", "test"] >= 1
    assert parts["b", "train"] >= 1


def test_no_validation_part_if_none_is_wanted(tmp_path: Path) -> None:
    files = read_repository(folders(tmp_path, a=20, b=20))
    assert {file.split for file in split_repository(files, seed=0, validation=0)} == {"train", "test"}
    assert split_repository(files, seed=0, validation=0) == split_test(files, seed=0)


def test_the_listing_tells_another_split_but_not_another_place(tmp_path: Path) -> None:
    (tmp_path / "here").mkdir()
    (tmp_path / "there").mkdir()
    here, there = (
        split_test(read_repository(folders(tmp_path / name, a=20, b=20)), seed=0) for name in ("here", "there")
    )
    assert listing_hash(here) == listing_hash(there)
    assert listing_hash(here) == listing_hash(split_repository(here, seed=0))
    assert listing_hash(here) != listing_hash(split_test(read_repository(tmp_path / "here"), seed=1))


def test_folds_hold_whole_groups_and_every_file_once() -> None:
    files = [LabelledFile(Path(f"{n:03}"), "ab"[n % 2], group=f"patient {n // 4}") for n in range(120)]
    folds = folds_by_group(files, 5, seed=0)
    assert sorted(number for fold in folds for number in fold) == list(range(120))
    for fold in folds:
        assert not {files[n].group for n in fold} & {files[n].group for n in range(120) if n not in fold}
        assert {files[n].label for n in fold} == {"a", "b"}
    with pytest.raises(SettingError, match="give from 2 to 30"):
        folds_by_group(files, 31, seed=0)
    few = [LabelledFile(Path(f"{label}{n}"), label, f"{label}{n}") for label in "abc" for n in range(8)]
    with pytest.raises(SettingError, match="give from 2 to 8"):
        folds_by_group(few, 10, seed=0)
    alone = [*files, LabelledFile(Path("x"), "x", "x")]
    with pytest.raises(RepositoryError, match="class 'x' would be in one fold alone"):
        folds_by_group(alone, 5, seed=0)
