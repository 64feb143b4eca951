from __future__ import annotations

from pathlib import Path

import pytest

from index.roots import Archive
from model.errors import RepositoryError
from workers.indexing.labels import label_reader, refuse_unmatched_labels


@pytest.fixture
def archive(tmp_path: Path) -> Archive:
    for name in ("pics/0.jpg", "pics/1.jpg"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("x")
    return Archive(str(tmp_path / "pics"))


@pytest.mark.parametrize(
    "text",
    ["path,label\npics/0.jpg,knee\n", "path,label\npics\\0.jpg,knee\n", "path , label\n pics/0.jpg  , knee \n"],
    ids=["plain", "Windows", "blanks"],
)
def test_paths_are_understood_as_they_are_written(archive: Archive, tmp_path: Path, text: str) -> None:
    manifest = tmp_path / "labels.csv"
    manifest.write_text(text)
    refuse_unmatched_labels(str(manifest), [archive])
    reader = label_reader(str(manifest))
    assert reader
    assert (reader(archive.address, "0.jpg"), reader(archive.address, "1.jpg")) == ("knee", None)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("path,label\n0.jpg,knee\n", "none of the 1 paths"),
        ("path,label\nPICS\\0.jpg,knee\n", "none of the 1 paths"),
        ("path,label\npics/0.jpg,knee,note\npics/1.jpg,chest,note\n", "more fields than its header"),
        ("path,label\npics/0.jpg,knee\npics/1.jpg,chest,note\n", "cannot be read"),
        ("path,label\npics/0.jpg,knee\npics/0.jpg,chest\n", "both 'knee' and 'chest'"),
        ("path,label\n", "none of the 0 paths"),
    ],
)
def test_labels_that_match_nothing_are_not_passed_over(
    archive: Archive, tmp_path: Path, text: str, message: str
) -> None:
    manifest = tmp_path / "labels.csv"
    manifest.write_text(text)
    with pytest.raises(RepositoryError, match=message):
        refuse_unmatched_labels(str(manifest), [archive])


def test_the_cases_that_failed(shared_data: Path, archive: Archive, tmp_path: Path) -> None:
    cases = sorted((shared_data.parent / "cases" / "labels-that-match-nothing").glob("*.csv"))
    assert cases
    for case in cases:
        manifest = tmp_path / "pics" / case.name
        manifest.write_bytes(case.read_bytes())
        with pytest.raises(RepositoryError):
            refuse_unmatched_labels(str(manifest), [archive])
