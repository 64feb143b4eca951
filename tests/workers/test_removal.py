from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from index.interface import Where
from index.opening import open_index
from model.errors import SettingError
from tests.conftest import small_job
from workers.job import index_archive
from workers.removal import delete_points
from workers.settings import JobObserver, JobSettings


@pytest.fixture
def copied(archive: Path, tmp_path: Path) -> Path:
    """Eyes and knees, and one eye twice."""
    copy = tmp_path / "archive"
    for organ in ("eye", "knee"):
        shutil.copytree(archive / organ, copy / organ)
    shutil.copy(copy / "eye" / "eye-000.dcm", copy / "knee" / "copy.dcm")
    return copy


@pytest.fixture
def settings(copied: Path, model_path: Path, tmp_path: Path) -> JobSettings:
    return small_job((copied,), model_path, tmp_path / "index", labels="folder")


def count(settings: JobSettings, **must: str) -> int:
    with open_index(settings.index, purpose="test") as index:
        return index.count(Where(must={field: [value] for field, value in must.items()}))


def test_deleted_points_stay_away_until_asked_back(settings: JobSettings, ray_here: Any) -> None:
    index_archive(settings)
    assert count(settings) == 8
    assert delete_points(settings.index, {"modality": ["OP"]}, may=lambda points: points != 4) == 0
    assert count(settings, modality="OP") == 4
    assert delete_points(settings.index, {"modality": ["OP"]}) == 4
    assert delete_points(settings.index, {"modality": ["OP"]}) == 0
    again = index_archive(settings)
    assert (again.points, again.left_out_before, count(settings, modality="OP")) == (0, 6, 0)
    back = index_archive(replace(settings, retry_left_out=True))
    assert (back.files_indexed, count(settings, modality="OP"), count(settings)) == (5, 4, 8)


def test_conditions_are_asked_for_and_known(tmp_path: Path) -> None:
    with pytest.raises(SettingError, match="--where is missing"):
        delete_points(tmp_path, {})
    with pytest.raises(SettingError, match="no field 'colour'"):
        delete_points(tmp_path, {"colour": ["red"]})


def test_nothing_is_pruned_against_an_objection(settings: JobSettings, copied: Path, ray_here: Any) -> None:
    class Objecting(JobObserver):
        def may_prune(self, files: int) -> bool:
            self.asked = files
            return False

    index_archive(settings)
    (copied / "knee" / "knee-000.dcm").unlink()
    pruning = replace(settings, prune=True)
    observer = Objecting()
    report = index_archive(pruning, observer)
    assert (observer.asked, report.files_gone, report.files_pruned) == (1, 1, 0)
    assert index_archive(pruning).files_pruned == 1
