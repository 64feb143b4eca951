from __future__ import annotations

from pathlib import Path

import pytest

from model.dataset.series_queries import known_queries, read_queries
from model.errors import DatasetError


def test_what_comes_with_the_program_can_be_read() -> None:
    assert set(known_queries()) == {"paper24", "organs-ct-mr"}
    classes = read_queries("paper24")
    named = {"brain", "liver", "stomach", "soft_tissue", "chest", "breast", "renal", "thyroid", "phantom", "rectum"}
    named |= {"bladder", "uterus", "head_neck", "esophagus", "cervix", "prostate", "ovary", "colon"}
    assert named < set(classes)
    assert len(classes) == 22  # eye and knee are not in the archive


def test_defaults_hold_where_a_query_says_nothing(tmp_path: Path) -> None:
    (tmp_path / "own.yaml").write_text(
        "defaults: {modalities: [CT], least_instances: 5}\n"
        "classes:\n  liver: {collections: [a]}\n"
        "  brain:\n    - {collections: [b], modalities: [MR]}\n    - {collections: [c]}\n"
    )
    classes = read_queries(str(tmp_path / "own.yaml"))
    assert classes["liver"][0].modalities == ("CT",)
    assert [query.modalities for query in classes["brain"]] == [("MR",), ("CT",)]
    assert classes["brain"][1].least_instances == 5


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("classes: {a: {collections: [x], colour: [red]}}", "'colour' is none of"),
        ("classes: {a: {modalities: [CT]}}", "no collections"),
        ("classes: {a: {collections: x}}", "must be a list"),
        ("classes: {a: {collections: [x], least_instances: many}}", "must be a number"),
        ("classes: {a: [x]}", "expected lines like"),
        ("classes: {a: {collections: [x], least_instances: true}}", "must be a number"),
        ("classes: {a: []}", "expected lines like"),
        ("classes: {no: {collections: [x]}}", "put it in quotes"),
        ("classes: {a: {collections: [x]}, a: {collections: [y]}}", "'a' twice"),
        ("classes: {a: [{collections: [x], collections: [y]}]}", "'collections' twice"),
        ("defualts: {modalities: [CT]}\nclasses: {a: {collections: [x]}}", "'defualts' is none of"),
        ("a: [", "cannot be read as YAML"),
        ("just text", "holds no classes"),
    ],
)
def test_what_is_not_understood_is_named(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "own.yaml").write_text(text)
    with pytest.raises(DatasetError, match=message):
        read_queries(str(tmp_path / "own.yaml"))


def test_an_unknown_name_is_refused() -> None:
    with pytest.raises(DatasetError, match="organs-ct-mr"):
        read_queries("paper25")
