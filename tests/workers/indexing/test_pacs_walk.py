"""Jobs over DICOMweb services with bad habits: what is not listed is not called gone, and nothing is asked twice."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydicom import dcmread

from index.roots import Root
from model.errors import JobError
from model.pacs.access import Access
from model.pacs.client import Selection, Study
from model.pacs.dicomweb import DicomWeb
from tests.support import phantoms
from tests.support.dicomweb_server import Habits, serve
from tests.support.jobs import small_job
from workers.indexing.job import index_archive
from workers.indexing.pacs_walk import PacsWalk
from workers.indexing.report import JobReport
from workers.indexing.settings import Privacy

pytestmark = pytest.mark.usefixtures("without_ray")


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Nine files of three series."""
    folder = tmp_path_factory.mktemp("held")
    written = []
    for organ, number in [("eye", number) for number in range(7)] + [("knee", number) for number in range(2)]:
        written.append(folder / f"{organ}-{number}.dcm")
        header = phantoms.dicom([phantoms.draw(organ, number, 32)], organ, number)
        header.save_as(written[-1], enforce_file_format=True)
    return written


def job(address: str, model: Path, index: Path, **more: Any) -> JobReport:
    return index_archive(small_job((address,), model, index, **more))


def test_a_second_run_lists_no_series_again(files: list[Path], model_path: Path, tmp_path: Path) -> None:
    told = Habits(files[:8], most=2)
    with serve(told) as address:
        assert job(address, model_path, tmp_path / "index").files_indexed == 8
        told.listed.clear()
        assert job(address, model_path, tmp_path / "index").files_unchanged == 8
        assert not told.listed
        assert len(told.asked) == 8


def test_what_a_server_does_not_list_any_more_is_not_called_gone_where_it_repeats_itself(
    files: list[Path], model_path: Path, tmp_path: Path
) -> None:
    told = Habits(files)
    with serve(told) as address:
        assert job(address, model_path, tmp_path / "index").files_indexed == 9
        told.most, told.knows_offset, told.counts_more = 1, False, 5
        report = job(address, model_path, tmp_path / "index", prune=True)
        assert (report.files_gone, report.files_pruned) == (0, 0)
        assert any("the server counts" in file.detail for file in report.left_out)


def test_what_is_gone_is_gone_where_the_server_lists_all(files: list[Path], model_path: Path, tmp_path: Path) -> None:
    gone = dcmread(files[0]).SOPInstanceUID
    told = Habits(list(files))
    with serve(told) as address:
        job(address, model_path, tmp_path / "index")
        told.hidden.add(gone)
        report = job(address, model_path, tmp_path / "index", prune=True)
        assert (report.files_gone, report.files_pruned) == (1, 1)


def test_a_study_or_series_is_an_archive_too(files: list[Path], model_path: Path, tmp_path: Path) -> None:
    header = dcmread(files[0])
    same = [file for file in files if dcmread(file).SeriesInstanceUID == header.SeriesInstanceUID]
    with serve(Habits(files)) as address:
        series = f"{address}/studies/{header.StudyInstanceUID}/series/{header.SeriesInstanceUID}"
        assert job(series, model_path, tmp_path / "index").files_indexed == len(same)
        assert job(series, model_path, tmp_path / "index").files_unchanged == len(same)
        one = f"{series}/instances/{header.SOPInstanceUID}"
        assert job(one, model_path, tmp_path / "one").files_indexed == 1
        # The whole server holds the series: what is known of it is not asked for again.
        report = job(address, model_path, tmp_path / "index")
        assert report.files_found == 9


def test_names_that_are_hidden_are_listed_each_time(files: list[Path], model_path: Path, tmp_path: Path) -> None:
    told = Habits(files)
    with serve(told) as address:
        job(address, model_path, tmp_path / "index", privacy=Privacy(paths="hash"))
        told.listed.clear()
        report = job(address, model_path, tmp_path / "index", privacy=Privacy(paths="hash"))
    assert report.files_unchanged == 9
    assert told.listed


def test_studies_that_were_named_before_a_server_went_away_are_found(
    files: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    studies = DicomWeb.studies

    def then_none(pacs: DicomWeb, selection: Selection) -> Iterator[Study]:
        yield from studies(pacs, selection)
        raise JobError("it does not answer")

    monkeypatch.setattr(DicomWeb, "studies", then_none)
    with serve(Habits(files)) as address:
        *found, failed = PacsWalk(Access(connections=3)).walk(Root(0, address), None)
    assert sum(len(directory.files) for directory in found) == 9
    assert failed.unreadable == {"": "it does not answer"}


def test_listing_and_fetching_share_the_connections() -> None:
    shares = [(Access(n).to_list.connections, Access(n).to_fetch.connections) for n in (1, 2, 4, 5)]
    assert shares == [(1, 1), (1, 1), (2, 2), (2, 3)]
