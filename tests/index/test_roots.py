from __future__ import annotations

from pathlib import Path

import pytest

from index.roots import below, parts_of
from model.images.sources import join

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
        ("zip://::/data/a.zip", {(0, "a.zip"), (2, "")}),
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


@pytest.mark.parametrize(
    ("address", "root", "path"),
    [
        ("zip://m.dcm::/data/x.zip", "/data", "x.zip//m.dcm"),
        ("zip://d/m.dcm::/data/2024/x.zip", "/data", "2024/x.zip//d/m.dcm"),
        ("tar:///m.dcm::/data/x.tgz", "/data", "x.tgz///m.dcm"),
        ("zip://::/data/x.zip", "/data", "x.zip"),
        ("zip://m.dcm::/data/x.zip", "zip://::/data/x.zip", "m.dcm"),
        ("zip://d/m.dcm::/data/x.zip", "zip://d::/data/x.zip", "m.dcm"),
        ("zip://m.dcm::/data/bundle", "/data", None),  # not walked as a folder: its name does not say what it is
        ("zip://m.dcm::/data/x.zip", "/other", None),
        ("zip://m.dcm::/data/x.zip", "zip://::/data/y.zip", None),
        ("zip://m.dcm::s3://bucket/x.zip", "s3://bucket", "x.zip//m.dcm"),
    ],
)
def test_members_of_archive_files_lie_below_their_folder(address: str, root: str, path: str | None) -> None:
    assert below(address, root) == path
    if path is not None and "://::" not in address:
        assert join(root, path) == address
