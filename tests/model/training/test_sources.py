from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from model.errors import RepositoryError, SettingError
from model.training.repository import LabelledFile, read_manifest
from model.training.sources import folds_by_source, hold_sources_out, split_by_source

PAIRS = st.lists(st.tuples(st.sampled_from("abcd"), st.sampled_from("stuvwxyz")), min_size=1, max_size=80)


def files_of(pairs: list[tuple[str, str]]) -> list[LabelledFile]:
    return [LabelledFile(Path(f"/{n:03}.png"), label, str(n), source=source) for n, (label, source) in enumerate(pairs)]


@given(pairs=PAIRS, seed=st.integers(0, 9))
def test_a_source_is_on_one_side_and_no_class_loses_too_much(pairs: list[tuple[str, str]], seed: int) -> None:
    files = files_of(pairs)
    sources: dict[str, Counter[str]] = defaultdict(Counter)
    for label, source in pairs:
        sources[label][source] += 1
    try:
        split = hold_sources_out(files, "test", 0.3, seed=seed)
    except RepositoryError:
        assert max(map(len, sources.values())) < 3
        return
    assert [file.path for file in split] == [file.path for file in files]
    sides: dict[str, set[str | None]] = defaultdict(set)
    for file in split:
        sides[file.source].add(file.split)
    assert all(len(parts) == 1 for parts in sides.values())
    held = {source for source, parts in sides.items() if parts == {"test"}}
    for counts in sources.values():
        assert counts.keys() - held
        if len(counts) >= 3:
            assert len(counts.keys() - held) >= 2
            assert 2 * sum(counts[source] for source in held) <= counts.total()


def test_every_class_of_many_sources_is_tested_on_some() -> None:
    pairs = [(label, f"{label}{n % 10}") for label in "abc" for n in range(100)] + [("rare", "one")] * 5
    split = split_by_source(files_of(pairs), seed=0)
    by_part = Counter((file.label, file.split) for file in split)
    for label in "abc":
        assert 20 <= by_part[label, "test"] <= 50
        assert by_part[label, "validation"]
        assert by_part[label, "train"]
    assert by_part["rare", "train"] == 5
    assert {file.group for file in split} == {str(n) for n in range(len(pairs))}  # patients stay what they are
    assert split != split_by_source(files_of(pairs), seed=1)


def test_a_patient_of_two_sources_joins_them() -> None:
    pairs = [(label, f"{label}{n % 8}") for label in "ab" for n in range(80)]
    files = [replace(f, group="one patient") if f.source in {"a0", "a1", "b5"} else f for f in files_of(pairs)]
    for seed in range(10):
        sides = {file.split for file in split_by_source(files, seed=seed) if file.group == "one patient"}
        assert len(sides) == 1
        parts = folds_by_source(files, 3, seed=seed)
        assert len({n for n, part in enumerate(parts) for at in part if files[at].group == "one patient"}) == 1


def test_three_sources_a_class_are_enough() -> None:
    pairs = [(label, f"{label}{n % 3}") for label in "ab" for n in range(30)]
    split = split_by_source(files_of(pairs), seed=0)
    assert Counter(file.split for file in split) == {"train": 40, "test": 20}


def test_sources_are_read_from_the_manifest(tmp_path: Path) -> None:
    manifest = tmp_path / "manifest.csv"
    manifest.write_text("path,label,source,upstream\na.png,eye,repository,dataset\nb.png,eye,other,\n")
    assert [file.source for file in read_manifest(manifest)] == ["dataset", "other"]
    manifest.write_text("path,label\na.png,eye\nb.png,knee\n")
    with pytest.raises(RepositoryError, match="has no source: the manifest needs a column"):
        split_by_source(read_manifest(manifest), seed=0)
    manifest.write_text("path,label,source\na.png,eye,one\nb.png,eye,two\nc.png,knee,one\n")
    with pytest.raises(RepositoryError, match="no class has 3 sources"):
        split_by_source(read_manifest(manifest), seed=0)


@given(pairs=PAIRS, seed=st.integers(0, 9), folds=st.integers(2, 4))
def test_folds_hold_whole_sources_and_every_class_is_always_trained(
    pairs: list[tuple[str, str]], seed: int, folds: int
) -> None:
    files = files_of(pairs)
    try:
        parts = folds_by_source(files, folds, seed=seed)
    except RepositoryError:
        return
    assert len(parts) == folds
    assert sum(map(len, parts)) == len(set().union(*parts))
    fold_of = {n: number for number, part in enumerate(parts) for n in part}
    by_source: dict[str, set[int | None]] = defaultdict(set)
    for n, file in enumerate(files):
        by_source[file.source].add(fold_of.get(n))
    assert all(len(where) == 1 for where in by_source.values())
    every = {file.label for file in files}
    for number in range(folds):
        assert {file.label for n, file in enumerate(files) if fold_of.get(n) != number} == every


def test_each_class_is_spread_over_the_folds() -> None:
    pairs = [(label, f"{label}{n % 6}") for label in "abc" for n in range(90)] + [("rare", "one")] * 5
    files = files_of(pairs)
    parts = folds_by_source(files, 3, seed=0)
    for part in parts:
        assert Counter(files[n].label for n in part) == {"a": 30, "b": 30, "c": 30}
    with pytest.raises(SettingError, match="at least 2"):
        folds_by_source(files, 1, seed=0)
    with pytest.raises(RepositoryError, match="too few for 2 folds"):
        folds_by_source(files_of([("a", "s"), ("b", "t")]), 2, seed=0)
