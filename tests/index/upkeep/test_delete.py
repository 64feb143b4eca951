from __future__ import annotations

import os
import re
import shutil
from collections.abc import Mapping
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pydicom import dcmread

from index.address import parse_address
from index.engines.edge import EdgeIndex
from index.engines.engine import Where
from index.home.key import KEY_NAME
from index.ledger import FileKey, Ledger
from index.opening import open_index
from index.upkeep.delete import delete_points, forget_archives
from model.errors import JobError, SettingError, VectorIndexError
from tests.support.jobs import small_job
from workers.indexing.job import index_archive
from workers.indexing.reembedding import building
from workers.indexing.settings import JobObserver, JobSettings, Privacy


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


def test_deleted_points_stay_away_until_asked_back(settings: JobSettings, without_ray: Any) -> None:
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
        delete_points(parse_address(tmp_path), {})
    with pytest.raises(SettingError, match="no field 'colour'"):
        delete_points(parse_address(tmp_path), {"colour": ["red"]})


def test_nothing_is_pruned_against_an_objection(settings: JobSettings, copied: Path, without_ray: Any) -> None:
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


class Killed(BaseException):
    pass


def test_a_deletion_that_is_cut_off_is_finished_by_the_same_call(
    settings: JobSettings, without_ray: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    index_archive(settings)

    def die(*_: object) -> None:
        raise Killed

    with monkeypatch.context() as patched:
        patched.setattr(EdgeIndex, "delete", die)
        with pytest.raises(Killed):
            delete_points(settings.index, {"modality": ["OP"]})
    assert delete_points(settings.index, {"modality": ["OP"]}) == 4
    assert index_archive(settings).left_out_before == 6
    assert index_archive(replace(settings, retry_left_out=True)).files_indexed == 5
    with monkeypatch.context() as patched:
        patched.setattr(Ledger, "drop_points", die)
        with pytest.raises(Killed):
            delete_points(settings.index, {"modality": ["OP"]})
    assert count(settings, modality="OP") == 0
    assert index_archive(replace(settings, retry_left_out=True)).files_indexed == 5
    assert count(settings) == 8


def test_a_prune_that_is_cut_off_leaves_nothing_called_done(
    settings: JobSettings, copied: Path, tmp_path: Path, without_ray: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    index_archive(settings)
    (copied / "knee").rename(tmp_path / "unmounted")

    def die(*_: object) -> None:
        raise Killed

    with monkeypatch.context() as patched:
        patched.setattr(Ledger, "forget", die)
        with pytest.raises(Killed):
            index_archive(replace(settings, prune=True))
    assert count(settings) == 4
    (tmp_path / "unmounted").rename(copied / "knee")
    again = index_archive(settings)
    assert (again.files_changed, count(settings)) == (6, 8)  # the broken one, too


def test_a_copy_that_is_left_alone_speaks_for_itself(settings: JobSettings, copied: Path, without_ray: Any) -> None:
    ds = dcmread(copied / "knee" / "copy.dcm")
    ds.StudyInstanceUID = "1.2.3"
    ds.save_as(copied / "knee" / "copy.dcm")
    index_archive(settings)
    assert count(settings, study_instance_uid="1.2.3") == 0
    (copied / "eye" / "eye-000.dcm").unlink()
    index_archive(replace(settings, prune=True))
    index_archive(settings)
    assert count(settings, study_instance_uid="1.2.3") == 1


def test_what_is_gone_for_good_is_forgotten(
    settings: JobSettings, copied: Path, tmp_path: Path, without_ray: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("index.upkeep.delete._FORGET_FILES", 3)
    monkeypatch.setattr("index.upkeep.dropping.DROP_POINTS", 2)
    packed, single = Path(shutil.make_archive(str(tmp_path / "packed"), "zip", copied, "eye")), tmp_path / "single.dcm"
    shutil.copy(copied / "knee" / "knee-000.dcm", single)
    settings = replace(settings, archives=(copied, packed, single), privacy=Privacy(paths="hash"))
    index_archive(settings)
    assert count(settings) == 8
    packed.unlink()
    single.unlink()
    index = settings.index
    seen: list[Mapping[str, int]] = []

    def object_to(files: Mapping[str, int]) -> bool:
        seen.append(files)
        return False

    assert forget_archives(index, [str(single), str(packed)], may=object_to) == 0
    assert seen == [{str(single): 1, f"zip://::{packed}": 4}]
    assert forget_archives(index, [str(single), str(packed)]) == 5
    with open_index(index, purpose="test") as opened:
        locations = [str(location) for _, payload in opened.scroll() for location in payload.locations]
    assert len(locations) == 9
    assert all(location.startswith("0:") for location in locations)
    assert forget_archives(index, [str(copied / "eye")]) == 4
    assert count(settings) == 5  # an eye has its copy among the knees
    assert forget_archives(index, [str(copied / "knee" / "copy.dcm")]) == 1
    assert count(settings) == 4
    whole = index_archive(replace(settings, archives=(tmp_path,), limit=5))
    assert (whole.files_indexed, [file.path for file in whole.left_out]) == (5, [])  # the forgotten file is not missed
    assert forget_archives(index, [str(tmp_path)]) == 10  # everything, a broken file among it
    assert count(settings) == 0


def test_forgetting_that_is_cut_off_is_finished_by_the_same_call(
    settings: JobSettings, copied: Path, without_ray: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    index_archive(settings)

    def die(*_: object) -> None:
        raise Killed

    for victim, method in ((EdgeIndex, "set_payload"), (EdgeIndex, "delete"), (Ledger, "forget")):
        with monkeypatch.context() as patched:
            patched.setattr(victim, method, die)
            with pytest.raises(Killed):
                forget_archives(settings.index, [str(copied / "eye")])
        with closing(Ledger(settings.index.home, read_only=True)) as ledger:
            assert FileKey(0, "knee", "copy.dcm") in set(ledger.keys("writing"))  # it speaks for the picture now
    assert forget_archives(settings.index, [str(copied / "eye")]) == 4
    assert count(settings) == 5
    assert index_archive(settings).files_indexed == 5


def test_what_cannot_be_forgotten_is_said(
    settings: JobSettings, copied: Path, tmp_path: Path, without_ray: Any
) -> None:
    index_archive(settings)
    for named in (tmp_path / "elsewhere", copied / "knee" / "*.dcm"):
        message = f"nothing of {named} is indexed; roots of the index: {copied}"
        with pytest.raises(SettingError, match=re.escape(message)):
            forget_archives(settings.index, [str(copied / "eye"), str(named)])
    assert count(settings) == 8
    hidden = replace(settings, index=parse_address(tmp_path / "hidden"), privacy=Privacy(paths="hash"))
    index_archive(hidden)
    (hidden.index.home / KEY_NAME).unlink()
    with pytest.raises(VectorIndexError, match=f"has not the {KEY_NAME}"):
        forget_archives(hidden.index, [str(copied / "eye")])
    assert forget_archives(hidden.index, [str(copied)]) == 10
    with pytest.raises(JobError, match=r"is not UTF-8"):
        forget_archives(settings.index, [os.fsdecode(b"/a\xff")])
    unfinished = building(settings.index.home)
    unfinished.mkdir()
    with pytest.raises(SettingError, match="unfinished --reembed"):
        forget_archives(settings.index, [str(copied)])
    unfinished.rmdir()
    (settings.index.home / "ledger.sqlite").unlink()
    assert forget_archives(settings.index, [str(copied)]) == 9  # its points say which files they are of
