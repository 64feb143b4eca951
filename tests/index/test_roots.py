from __future__ import annotations

from pathlib import Path

import pytest

from index.roots import parts_of

ROOTS = (
    "/data",
    "/data/old",
    "zip://::/data/a.zip",
    "s3://bucket/scans",
    "/data/x::/mnt/y",
    "zip://::s3://bucket/b.zip",
)


@pytest.mark.parametrize(
    ("named", "found"),
    [
        ("/data", {(0, ""), (1, ""), (2, ""), (4, "")}),
        ("/data/", {(0, ""), (1, ""), (2, ""), (4, "")}),
        ("/data/old", {(0, "old"), (1, "")}),
        ("/data/old/../old/1.dcm", {(0, "old/1.dcm"), (1, "1.dcm")}),
        ("/data/a.zip", {(0, "a.zip"), (2, "")}),
        ("zip://::/data/a.zip", {(2, "")}),
        ("s3://bucket", {(3, ""), (5, "")}),
        ("s3://bucket/scans/2024/", {(3, "2024")}),
        ("/mnt", set()),
        ("/dat", set()),
    ],
)
def test_what_is_named_is_found_among_the_roots(named: str, found: set[tuple[int, str]]) -> None:
    assert {(part.number, part.below) for part in parts_of(ROOTS, named)} == found


def test_relative_names_are_meant_from_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    [part] = parts_of((str(tmp_path),), "gone")
    assert part.start == str(tmp_path / "gone")
