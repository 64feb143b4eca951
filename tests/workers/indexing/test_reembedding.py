from __future__ import annotations

import shutil
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import pytest

from index.address import parse_address
from index.ledger import FileKey, Ledger
from index.opening import open_index
from index.upkeep.delete import delete_points
from model.errors import IndexLockedError, JobError, ModelMismatchError, SettingError
from model.network.metadata import read_metadata
from tests.support.jobs import small_job
from workers.indexing import sink
from workers.indexing.job import index_archive
from workers.indexing.reembedding import building, plan_reembedding, reembed
from workers.indexing.report import JobReport
from workers.indexing.settings import JobObserver, Privacy

pytestmark = pytest.mark.usefixtures("without_ray")


def test_the_old_index_answers_until_the_new_one_is_whole(
    archive: Path, model_path: Path, other_model_path: Path, tmp_path: Path
) -> None:
    index = tmp_path / "index"
    eye = (archive / "eye",)
    with pytest.raises(SettingError, match="is no index: leave --reembed out"):
        reembed(small_job(eye, model_path, index))
    index_archive(small_job(eye, model_path, index))
    with pytest.raises(ModelMismatchError, match="cbmir index --reembed"):
        index_archive(small_job(eye, other_model_path, index))
    with open_index(parse_address(index), purpose="a search") as old:
        with pytest.raises(IndexLockedError, match="'a search'"):
            reembed(small_job(eye, other_model_path, index, layers=("fcl1", "fcl2")))
        assert old.count() == 4
        assert old.description.model_fingerprint == read_metadata(model_path).fingerprint
    # What was embedded is not embedded again: the new index waits beside the old one.
    report = reembed(small_job(eye, other_model_path, index, layers=("fcl1", "fcl2")))
    assert (report.files_indexed, report.files_unchanged) == (0, 4)
    with open_index(parse_address(index), purpose="test") as new:
        assert new.count() == 4
        assert new.description.model_fingerprint == read_metadata(other_model_path).fingerprint
        assert new.description.layers == ("fcl1", "fcl2")
    assert [path.name for path in tmp_path.iterdir()] == ["index"]


def test_nothing_is_replaced_by_less(archive: Path, model_path: Path, other_model_path: Path, tmp_path: Path) -> None:
    index, empty, folder = tmp_path / "index", tmp_path / "empty", tmp_path / "home"
    empty.mkdir()
    folder.mkdir()
    (folder / "thesis.doc").write_text("years of work")
    index_archive(small_job((archive / "eye", archive / "chest"), model_path, index, labels="folder"))
    for archives in ((empty,), (archive / "eye",)):
        with pytest.raises(JobError, match="is every archive named and mounted"):
            reembed(small_job(archives, other_model_path, index))
        shutil.rmtree(building(index))
    with pytest.raises(SettingError, match="is no index"):
        reembed(small_job((archive / "eye",), other_model_path, folder))
    assert (folder / "thesis.doc").exists()
    with open_index(parse_address(index), purpose="test") as old:
        assert old.count() == 8


def test_labels_that_would_be_lost_are_asked_for_before_the_work(
    archive: Path, model_path: Path, other_model_path: Path, tmp_path: Path
) -> None:
    labelled = small_job((archive,), model_path, tmp_path / "index", labels="folder", limit=3)
    index_archive(labelled)
    without = replace(labelled, model=other_model_path, labels=None, limit=None)
    for job in (reembed, plan_reembedding):  # a dry run refuses the same
        with pytest.raises(SettingError, match=r"3 files of .* have labels, which a new index would lack"):
            job(without)
    assert not building(tmp_path / "index").exists()
    assert plan_reembedding(replace(without, labels="folder")).pending == 26


def test_a_kill_between_the_two_renames_is_mended(
    archive: Path, model_path: Path, other_model_path: Path, tmp_path: Path
) -> None:
    index = tmp_path / "index"
    settings = small_job((archive / "eye",), other_model_path, index)
    index_archive(replace(settings, model=model_path))
    index_archive(replace(settings, index=parse_address(building(index))))
    index.rename(tmp_path / "index.replaced")
    assert reembed(settings).files_unchanged == 4
    with open_index(parse_address(index), purpose="test") as new:
        assert new.description.model_fingerprint == read_metadata(other_model_path).fingerprint
        assert new.count() == 4
    assert [path.name for path in tmp_path.iterdir()] == ["index"]
    index_archive(replace(settings, index=parse_address(building(index))))
    with pytest.raises(SettingError, match="is left from another --reembed: delete it"):
        reembed(replace(settings, model=model_path))


def test_a_part_of_an_index_does_not_replace_it(archive: Path, model_path: Path, tmp_path: Path) -> None:
    with pytest.raises(SettingError, match="--limit exclude each other"):
        reembed(small_job((archive,), model_path, tmp_path, limit=3))
    with pytest.raises(SettingError, match="works on folders"):
        reembed(small_job((archive,), model_path, "http://host/scans"))


def test_every_file_of_the_old_index_is_looked_for(
    archive: Path, model_path: Path, other_model_path: Path, tmp_path: Path
) -> None:
    index, grown, chest = tmp_path / "index", tmp_path / "grown", tmp_path / "chest"
    shutil.copytree(archive / "eye", grown)
    shutil.copytree(archive / "chest", chest)
    index_archive(small_job((grown, chest), model_path, index))
    for number in range(6):
        shutil.copy(archive / "knee" / f"knee-00{number % 4}.dcm", grown / f"{number}.dcm")
    with closing(Ledger(index)) as ledger:
        ledger.mark_writing([FileKey(1, "", "chest-000.dcm")])  # as one that a copy has left its pictures to
    fewer = small_job((grown,), other_model_path, index)  # more files, but none of the chest
    with pytest.raises(JobError, match="lacks 4 of the old one: is every archive named and mounted"):
        reembed(fewer)
    with pytest.raises(JobError, match="chest has no file in the new index, and 4 in the old one: is it named"):
        reembed(replace(fewer, prune=True))
    for number in range(3):
        (chest / f"chest-00{number}.dcm").unlink()
    fewer = replace(fewer, archives=(grown, chest))

    class Asked(JobObserver):
        files, answer = 0, False
        outcomes: ClassVar[list[str]] = []

        def ended(self, report: JobReport) -> None:
            self.outcomes.append(report.outcome)

        def may_prune(self, files: int, /) -> bool:
            self.files = files
            return self.answer

    asked = Asked()
    with pytest.raises(JobError, match="lacks 3"):
        reembed(replace(fewer, prune=True), asked)
    assert (asked.files, asked.outcomes) == (3, ["failed"])
    with open_index(parse_address(index), purpose="test") as old:
        assert old.count() == 8
    asked.answer = True
    reembed(replace(fewer, prune=True), asked)
    assert asked.outcomes == ["failed", "complete"]
    with open_index(parse_address(index), purpose="test") as new:
        assert new.count() == 9  # four eyes, four knees, two of them twice, and a chest
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(JobError, match="no file in the new index"):
        reembed(replace(fewer, archives=(empty,), model=model_path, prune=True), asked)


def test_a_root_above_the_old_ones_holds_their_files(
    archive: Path, model_path: Path, other_model_path: Path, tmp_path: Path
) -> None:
    index = tmp_path / "index"
    index_archive(small_job((archive / "eye", archive / "knee" / "knee-000.dcm"), model_path, index))
    assert reembed(small_job((archive,), other_model_path, index)).outcome == "complete"


class Killed(BaseException):
    pass


def die(*_: object) -> None:
    raise Killed


def test_what_was_deleted_stays_out(
    archive: Path, model_path: Path, other_model_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    index, hidden = tmp_path / "index", tmp_path / "hidden"
    settings = small_job((archive / "eye", archive / "knee"), model_path, index)
    index_archive(settings)
    assert delete_points(parse_address(index), {"modality": ["OP"]}) == 4
    with monkeypatch.context() as patched:
        patched.setattr(sink, "drop_points", die)
        with pytest.raises(Killed):
            reembed(replace(settings, model=other_model_path))
    reembed(replace(settings, model=other_model_path))
    with open_index(parse_address(index), purpose="test") as new:
        assert (new.count(), new.facet("modality").get("OP")) == (4, None)
    assert index_archive(replace(settings, model=other_model_path)).left_out_before == 5  # one is broken
    reembed(replace(settings, retry_left_out=True))
    with open_index(parse_address(index), purpose="test") as new:
        assert new.count() == 8
    settings = replace(settings, index=parse_address(hidden), privacy=Privacy(paths="hash"))
    index_archive(settings)
    delete_points(parse_address(hidden), {"modality": ["OP"]})
    with pytest.raises(SettingError, match=r"4 files were deleted .* whose paths are hashed"):
        reembed(replace(settings, model=other_model_path))
