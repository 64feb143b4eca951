"""DICOMweb services that do not keep to the standard: nothing is overlooked, nothing passes for something else."""

from __future__ import annotations

import time
from contextlib import closing
from io import BytesIO
from pathlib import Path

import pytest
from pydicom import Dataset, dcmread, dcmwrite

from model.errors import ImageError, JobError, Reason
from model.images.reading import read_frames
from model.pacs.access import Access
from model.pacs.client import EVERYTHING, Pacs, Place, connect, instance_uid
from tests.support import phantoms
from tests.support.dicomweb_server import Habits, serve


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Five files of two series, and two of another study."""
    folder = tmp_path_factory.mktemp("held")
    wanted = [("eye", number) for number in range(7)] + [("knee", number) for number in range(2)]
    return [write(folder, organ, number) for organ, number in wanted]


def write(folder: Path, organ: str, number: int) -> Path:
    file = folder / f"{organ}-{number}.dcm"
    phantoms.dicom([phantoms.draw(organ, number, 32)], organ, number).save_as(file, enforce_file_format=True)
    return file


def places(pacs: Pacs) -> list[Place]:
    return [
        (study.uid, series.uid, instance.uid)
        for study in pacs.studies(EVERYTHING)
        for series in pacs.series(study.uid, EVERYTHING)
        for instance in pacs.instances(study.uid, series.uid)
    ]


@pytest.mark.parametrize("habits", [{}, {"most": 2}, {"knows_offset": False}], ids=str)
def test_everything_is_found_and_comes_as_it_is_kept(files: list[Path], habits: dict[str, int]) -> None:
    told = Habits(files, **habits)  # type: ignore[arg-type]
    with serve(told) as address, closing(connect(address, Access())) as pacs:
        pacs.check()
        came = dict(pacs.fetch(places(pacs), lambda: None))
    wanted = {dcmread(file).SOPInstanceUID: dcmread(file) for file in files}
    assert {place[2] for place in came} == wanted.keys()
    for place, content in came.items():
        assert isinstance(content, bytes)
        assert dcmread(BytesIO(content)) == wanted[place[2]]
    assert all("cbmir" in agent for agent in told.user_agents)


def test_a_busy_server_is_asked_again_when_it_says_so(files: list[Path]) -> None:
    told = Habits(files[:1], busy=1)
    with serve(told) as address, closing(connect(address, Access())) as pacs:
        [(_, content)] = pacs.fetch(places(pacs), lambda: None)
    assert isinstance(content, bytes)
    assert told.asked[1] - told.asked[0] >= 1


def test_an_answer_that_is_cut_off_is_asked_for_again(files: list[Path]) -> None:
    with serve(Habits(files[:1], cuts_off=2)) as address, closing(connect(address, Access())) as pacs:
        [(_, content)] = pacs.fetch(places(pacs), lambda: None)
    assert isinstance(content, bytes)


def test_another_instance_does_not_pass_for_the_one_asked_for(files: list[Path]) -> None:
    with serve(Habits(files, mixes_up=True)) as address, closing(connect(address, Access())) as pacs:
        came = list(pacs.fetch(places(pacs)[:2], lambda: None))
    for _, content in came:
        assert isinstance(content, ImageError)
        assert content.reason == Reason.UNREACHABLE
        assert "another instance" in content.detail


@pytest.mark.parametrize(
    ("path", "html", "said"),
    [("", True, "does not speak DICOMweb"), ("/nothing", False, "404")],
)
def test_what_is_no_service_is_one_sentence(files: list[Path], path: str, html: bool, said: str) -> None:
    with (
        serve(Habits(files, html=html)) as address,
        closing(connect(f"{address}{path}", Access())) as pacs,
        pytest.raises(JobError, match=said),
    ):
        pacs.check()


def test_a_server_that_is_away_is_one_sentence_and_soon() -> None:
    started = time.monotonic()
    away = connect("dicomweb+http://127.0.0.1:1/dicom-web", Access(), patient=False)
    with closing(away), pytest.raises(JobError, match="no connection"):
        away.check()
    assert time.monotonic() - started < 20


def test_a_picture_is_read_by_its_address(files: list[Path]) -> None:
    with serve(Habits(files)) as address:
        with closing(connect(address, Access())) as pacs:
            study, series, instance = places(pacs)[0]
        of = f"{address}/studies/{study}/series/{series}"
        [frame] = read_frames(f"{of}/instances/{instance}")
        assert frame.pixels.shape == (32, 32)
        with pytest.raises(ImageError, match="ends in"):
            next(read_frames(of))


def test_an_instance_without_a_preamble_is_one_too(files: list[Path]) -> None:
    header = dcmread(files[0])
    bare, written = Dataset({element.tag: element for element in header}), BytesIO()
    dcmwrite(written, bare, implicit_vr=True, little_endian=True, enforce_file_format=False)
    assert b"DICM" not in written.getvalue()[:132]
    assert instance_uid(written.getvalue()) == header.SOPInstanceUID
