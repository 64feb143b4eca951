"""Jobs over a real PACS, by DICOMweb and by DIMSE: its points are those of the same files in a folder."""

from __future__ import annotations

import time
from contextlib import closing
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom import dcmread

from index.address import parse_address
from index.opening import open_index
from model.errors import JobError, SettingError
from model.pacs import dicomweb, dimse
from model.pacs.access import Access
from model.pacs.client import EVERYTHING, Selection, connect
from model.pacs.diagnosis import check_pacs
from tests.support import phantoms
from tests.support.jobs import small_job
from tests.support.orthanc import PASSWORD, Orthanc
from workers.indexing.job import index_archive
from workers.indexing.manners import Manners
from workers.indexing.report import JobReport
from workers.indexing.settings import JobObserver, JobSettings, PacsSettings, Progress

pytestmark = pytest.mark.usefixtures("without_ray")


@pytest.fixture
def held(tmp_path: Path, orthanc: Orthanc) -> Path:
    """A folder of eight files of two organs, and the PACS that has the same."""
    folder = tmp_path / "folder"
    folder.mkdir()
    for organ in ("eye", "knee"):
        for number in range(4):
            header = phantoms.dicom([phantoms.draw(organ, number, 32)], organ, number)
            header.PatientName, header.StudyDate = "Planted^Name", "20260110" if organ == "eye" else "20260220"
            header.Modality = "MR" if organ == "eye" else "CT"
            header.save_as(folder / f"{organ}-{number}.dcm", enforce_file_format=True)
    orthanc.take(*sorted(folder.iterdir()))
    return folder


def settings(archive: str | Path, model: Path, index: Path, **more: Any) -> JobSettings:
    return small_job((archive,), model, index, **more)


def job(archive: str | Path, model: Path, index: Path, **more: Any) -> JobReport:
    return index_archive(settings(archive, model, index, **more))


def count(index: Path) -> int:
    with open_index(parse_address(index), purpose="test") as opened:
        return opened.count()


def blackened(file: Path, to: Path) -> Path:
    """The same instance with other pixels."""
    header = dcmread(file)
    if header.file_meta.TransferSyntaxUID.is_compressed and "Deflated" not in header.file_meta.TransferSyntaxUID.name:
        header.decompress(generate_instance_uid=False)
    header.PixelData = bytes(len(header.PixelData))
    header.save_as(to)
    return to


@pytest.mark.parametrize("protocol", ["dicomweb", "C-GET", "C-MOVE"])
def test_the_points_are_those_of_the_folder(
    orthanc: Orthanc, held: Path, model_path: Path, tmp_path: Path, protocol: str
) -> None:
    job(held, model_path, tmp_path / "of-folder")
    pacs = PacsSettings(access=Access(ae_port=orthanc.ours if protocol == "C-MOVE" else None))
    address = orthanc.dicomweb if protocol == "dicomweb" else orthanc.dimse
    report = job(address, model_path, tmp_path / "of-pacs", pacs=pacs)
    assert (report.files_indexed, report.files_left_out) == (8, 0)
    with (
        open_index(parse_address(tmp_path / "of-folder"), purpose="test") as of_folder,
        open_index(parse_address(tmp_path / "of-pacs"), purpose="test") as of_pacs,
    ):
        ids = [point for point, _ in of_folder.scroll()]
        assert ids == [point for point, _ in of_pacs.scroll()]
        for point in ids:
            np.testing.assert_array_equal(of_pacs.vector(point, "fcl1"), of_folder.vector(point, "fcl1"))

    again = job(address, model_path, tmp_path / "of-pacs", pacs=pacs)
    assert (again.files_indexed, again.files_unchanged) == (0, 8)
    for file in (tmp_path / "of-pacs").rglob("*"):
        if file.is_file():
            assert PASSWORD.encode() not in file.read_bytes(), file
            assert b"Planted" not in file.read_bytes(), file


def test_what_is_new_changed_and_gone(
    orthanc: Orthanc, held: Path, model_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    index = tmp_path / "index"
    job(orthanc.dicomweb, model_path, index)
    listed: list[str] = []
    instances = dicomweb.DicomWeb.instances

    def noted(pacs: dicomweb.DicomWeb, study: str, series: str) -> Any:
        listed.append(series)
        return instances(pacs, study, series)

    monkeypatch.setattr(dicomweb.DicomWeb, "instances", noted)
    time.sleep(2.5)  # until the server calls its series stable
    job(orthanc.dicomweb, model_path, index)
    listed.clear()
    assert job(orthanc.dicomweb, model_path, index).files_unchanged == 8
    assert not listed  # what has not changed is not listed again

    another = tmp_path / "another.dcm"
    phantoms.dicom([phantoms.draw("knee", 9, 32)], "knee", 9).save_as(another, enforce_file_format=True)
    orthanc.take(another, blackened(held / "eye-1.dcm", tmp_path / "replaced.dcm"))
    orthanc.delete(dcmread(held / "eye-2.dcm").SOPInstanceUID)
    time.sleep(2.5)
    report = job(orthanc.dicomweb, model_path, index, prune=True)
    assert (report.files_new, report.files_changed, report.files_pruned) == (1, 1, 1)
    assert count(index) == 8

    orthanc.take(blackened(held / "eye-3.dcm", tmp_path / "replaced.dcm"))  # their number stays
    time.sleep(2.5)
    report = job(orthanc.dicomweb, model_path, index)
    assert (report.files_changed, report.files_unchanged) == (1, 7)


def test_only_what_is_wanted_is_asked_for(orthanc: Orthanc, held: Path, model_path: Path, tmp_path: Path) -> None:
    ct, late = PacsSettings(Selection(("CT",))), PacsSettings(Selection(since=date(2026, 2, 1)))
    for name, address in (("web", orthanc.dicomweb), ("dimse", orthanc.dimse)):
        assert job(address, model_path, tmp_path / name, pacs=ct).files_found == 4
        mr = PacsSettings(Selection(("MR",)))
        report = job(address, model_path, tmp_path / name, pacs=mr)
        assert (report.files_found, report.files_gone) == (4, 0)
        assert job(address, model_path, tmp_path / f"{name}-late", pacs=late).files_found == 4
        with pytest.raises(SettingError, match="--prune excludes"):
            job(address, model_path, tmp_path / name, pacs=ct, prune=True)


class Stopper(JobObserver):
    """Takes the PACS away once something is stored."""

    def __init__(self, orthanc: Orthanc) -> None:
        self._orthanc, self._stopped = orthanc, False

    def progress(self, progress: Progress) -> None:
        if not self._stopped and progress.stages and progress.stages.embedded_frames:
            self._stopped = True
            self._orthanc.stop()


class Changer(JobObserver):
    """Deletes, adds and anonymises instances once one is stored, at a rate at which most are not fetched yet."""

    def __init__(self, orthanc: Orthanc, deleted: str, anonymised: str, added: Path) -> None:
        self._orthanc, self._deleted, self._anonymised, self._added = orthanc, deleted, anonymised, added
        self.changed = False

    def progress(self, progress: Progress) -> None:
        if not self.changed and progress.stages and progress.stages.embedded_frames:
            self.changed = True
            self._orthanc.delete(self._deleted)
            self._orthanc.anonymise(self._anonymised)
            self._orthanc.take(self._added)


@pytest.mark.parametrize("protocol", ["dicomweb", "dimse"])
def test_what_changes_while_a_job_runs(
    orthanc: Orthanc, held: Path, model_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, protocol: str
) -> None:
    monkeypatch.setattr("workers.indexing.streaming.LOOK_SECONDS", 0.0)
    monkeypatch.setattr(dimse, "AT_ONCE", 1)
    added = tmp_path / "added.dcm"
    phantoms.dicom([phantoms.draw("knee", 9, 32)], "knee", 9).save_as(added, enforce_file_format=True)
    address = orthanc.dicomweb if protocol == "dicomweb" else orthanc.dimse
    with closing(connect(address, Access())) as pacs:
        listed = [
            one.uid
            for study in pacs.studies(EVERYTHING)
            for series in pacs.series(study.uid, EVERYTHING)
            for one in sorted(pacs.instances(study.uid, series.uid), key=lambda one: one.uid)
        ]
    observer = Changer(orthanc, deleted=listed[-1], anonymised=listed[-2], added=added)
    slowly = PacsSettings(manners=Manners(rate=4), access=Access(connections=1))
    report = index_archive(settings(address, model_path, tmp_path / "index", pacs=slowly), observer)
    assert observer.changed
    lost = [file for file in report.left_out if file.reason == "not reachable"]
    assert {file.path.rpartition("/")[2] for file in lost} == set(listed[-2:])
    assert report.files_indexed == 6

    time.sleep(2.5)  # until the server calls its series stable
    report = job(address, model_path, tmp_path / "index", prune=True)
    assert (report.files_new, report.files_unchanged, report.files_gone) == (2, 6, 0)
    assert count(tmp_path / "index") == 8


@pytest.mark.parametrize("protocol", ["dicomweb", "dimse"])
def test_what_a_pacs_that_went_away_did_not_give_is_named_and_comes_next_time(
    orthanc: Orthanc, held: Path, model_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, protocol: str
) -> None:
    monkeypatch.setattr(dicomweb, "PATIENT_RETRIES", 1)
    monkeypatch.setattr(dimse, "PATIENCE_SECONDS", 0.5)
    monkeypatch.setattr(dimse, "AT_ONCE", 1)
    monkeypatch.setattr("workers.indexing.streaming.LOOK_SECONDS", 0.0)
    address = orthanc.dicomweb if protocol == "dicomweb" else orthanc.dimse
    one = settings(address, model_path, tmp_path / "index", pacs=PacsSettings(access=Access(connections=1)))
    report = index_archive(one, Stopper(orthanc))
    lost = [file for file in report.left_out if file.reason == "not reachable"]
    assert lost
    assert report.files_indexed + len(lost) == 8
    with pytest.raises(JobError, match="does not answer"):
        index_archive(one)
    orthanc.start()
    assert index_archive(one).files_indexed == len(lost)
    assert count(tmp_path / "index") == 8


def test_whether_it_answers_is_told(orthanc: Orthanc) -> None:
    for address in (orthanc.dicomweb, orthanc.dimse):
        assert (check_pacs(address).state, check_pacs("dimse://ORTHANC@127.0.0.1:1").state) == ("fine", "lacking")


def check(address: str) -> None:
    with closing(connect(address, Access(), patient=False)) as pacs:
        pacs.check()


def test_what_stands_in_the_way_is_one_sentence(
    orthanc: Orthanc, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(JobError, match="does not answer"):
        check(orthanc.dicomweb.replace("+http:", "+https:"))
    with pytest.raises(SettingError, match="no file of certificates"):
        Access(authorities=str(tmp_path / "none.pem")).check()
    check(orthanc.dimse)
    with pytest.raises(JobError, match="no association"):
        check("dimse://ORTHANC@127.0.0.1:1")
    monkeypatch.setenv("CBMIR_PACS_PASSWORD", "wrong")
    with pytest.raises(JobError, match=r"refuses us \(401\)"):
        check(orthanc.dicomweb)
