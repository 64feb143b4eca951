"""``cbmir search --by series``, over volumes of known answer."""

from __future__ import annotations

import csv
import io
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from pydicom import dcmread

from model.pacs import file_system
from model.pacs.address import PacsAddress
from model.pacs.client import Pacs, connect
from tests.support.in_process import jobs_in_process
from tests.support.jobs import small_job
from tests.support.orthanc import Orthanc
from tests.support.terminal import run
from tests.support.volumes import make_body, write_series, write_volume
from workers.indexing.job import index_archive

KINDS, PERSONS = 3, 3


@pytest.fixture(scope="module")
def volumes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three kinds of bodies, three persons each: one from head to foot, one in an enhanced object."""
    folder = tmp_path_factory.mktemp("volumes")
    for kind in range(KINDS):
        for person in range(PERSONS):
            write_series(
                folder / "archive" / f"kind{kind}",
                make_body(kind, person),
                f"{kind}-{person}",
                slices=12,
                side=32,
                backwards=person == 1,
                enhanced=person == 2,
            )
    write_series(folder / "query", make_body(1, 9), "query", slices=20, side=32)
    return folder


@pytest.fixture(scope="module")
def index(volumes: Path, model_path: Path) -> Path:
    with jobs_in_process():
        index_archive(small_job((volumes / "archive",), model_path, volumes / "index", labels="folder"))
    return volumes / "index"


Cbmir = Callable[..., int]


def hits_of(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    (answer,) = json.loads(capsys.readouterr().out)
    return list(answer["hits"])


def test_a_folder_of_slices_finds_series_like_it(
    cbmir: Cbmir, volumes: Path, index: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ask = ("search", volumes / "query", "--index", index, "--by", "series", "--runtime", "openvino", "--top", 3)
    assert cbmir(*ask, "--format", "json", "--sheet", tmp_path / "sheet.png") == 0
    hits = hits_of(capsys)
    assert {Path(hit["path"]).parent.name for hit in hits} == {"kind1"}
    assert [hit["stored"] for hit in hits] == [12] * 3
    assert {hit["view"] for hit in hits} == {"axial"}
    for hit in hits:
        assert [pair["distance"] for pair in hit["pairs"]] == sorted(pair["distance"] for pair in hit["pairs"])
        assert len(hit["pairs"]) == 16
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.height > 6 * 192  # two rows a hit
    assert cbmir(*ask, "--format", "csv") == 0
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert [row["series_instance_uid"] for row in rows] == [hit["series_instance_uid"] for hit in hits]
    assert cbmir(*ask, "--sheet", tmp_path / "answer.html", "--where", "view=axial", "--pooling", "votes") == 0
    assert (tmp_path / "answer.html").read_text().count("data:image") >= 30


def test_a_stored_series_and_an_enhanced_object_are_queries(
    cbmir: Cbmir, volumes: Path, index: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ask = ("search", "--index", index, "--by", "series", "--top", 2, "--format", "json", "--slices", 6)
    file = volumes / "archive" / "kind2" / "2-2.dcm"
    assert cbmir(*ask, file, "--runtime", "openvino") == 0
    by_file = hits_of(capsys)
    assert {Path(hit["path"]).parent.name for hit in by_file} == {"kind2"}
    assert str(file) not in {hit["path"] for hit in by_file}
    uid = by_file[0]["series_instance_uid"]
    assert cbmir(*ask, "--like", uid) == 0
    assert uid not in {hit["series_instance_uid"] for hit in hits_of(capsys)}
    assert cbmir(*ask, "--like", uid, "--like", "9.9") == 3
    assert "holds no picture 9.9" in capsys.readouterr().err


def test_the_table_says_where_a_part_lies(program: Path, index: Path, tmp_path: Path) -> None:
    write_series(tmp_path / "part", make_body(0, 9), "part", slices=8, side=32, part=(0.55, 0.8))
    code, terminal = run(
        [program, "search", tmp_path / "part", "--index", index, "--by", "series", "--locate", "--top", 3], columns=120
    )
    assert code == 0, terminal.text
    assert "8 slices, axial; searched in modality CT by fcl1" in terminal.flat
    assert "where" in terminal.text
    first = next(line for line in terminal.lines if line.strip().startswith("1 "))
    assert "kind0" in terminal.flat.partition(" 2 ")[0]
    low, high = (int(part.rstrip("%")) for part in next(word for word in first.split() if "–" in word).split("–"))
    assert 35 <= low < high <= 95


def test_what_cannot_be_asked_is_one_sentence(
    cbmir: Cbmir, volumes: Path, index: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    by_series = ("search", "--index", index, "--by", "series")
    assert cbmir(*by_series, empty, "--runtime", "openvino") == 1
    assert "holds no picture" in capsys.readouterr().err
    assert cbmir(*by_series, tmp_path / "absent", "--runtime", "openvino") == 1
    assert "absent does not exist" in capsys.readouterr().err
    for wrong, said in (
        (("search", volumes / "query", "--index", index, "--locate"), "give --by series, too"),
        ((*by_series, volumes / "query", "--frame", 3), "leave --frame, --label"),
    ):
        assert cbmir(*wrong) == 2
        assert said in capsys.readouterr().err


@pytest.fixture(scope="module")
def files(model_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An index of four volumes, each in one file, and a query of the second kind beside it."""
    folder = tmp_path_factory.mktemp("files")
    archive = folder / "archive"
    archive.mkdir()
    for kind in range(2):
        for person in range(2):
            write_volume(archive / f"{kind}-{person}.nii.gz", make_body(kind, person), slices=10, side=24)
    write_volume(folder / "query.nrrd", make_body(1, 9), slices=14, side=24)
    with jobs_in_process():
        report = index_archive(small_job((archive,), model_path, folder / "index"))
    assert (report.files_indexed, report.points) == (4, 40), report.left_out
    return folder


def test_volumes_in_one_file_are_asked_for_and_inspected(
    cbmir: Cbmir, files: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ask = ("search", files / "query.nrrd", "--index", files / "index", "--by", "series", "--runtime", "openvino")
    assert cbmir(*ask, "--format", "json", "--top", 2) == 0
    assert {Path(hit["path"]).name for hit in hits_of(capsys)} == {"1-0.nii.gz", "1-1.nii.gz"}
    assert cbmir("inspect", files / "query.nrrd", "--frame", 3, "--no-prediction") == 0
    shown = capsys.readouterr().out
    assert "14 slices of 24 × 24" in shown
    assert "slice mm" in shown


def test_what_cannot_be_decoded_or_found_costs_only_itself(
    cbmir: Cbmir, volumes: Path, index: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    damaged = Path(shutil.copytree(volumes / "query", tmp_path / "damaged"))
    victim = sorted(damaged.iterdir())[1]
    ds = dcmread(victim)
    ds.PixelData = ds.PixelData[:100]
    ds.save_as(victim)
    ask = ("search", "--index", index, "--by", "series", "--runtime", "openvino", "--top", 3, "--slices", 20)
    assert cbmir(*ask, damaged, tmp_path / "absent", "--format", "json") == 3
    told = capsys.readouterr()
    (answer,) = json.loads(told.out)
    assert len(answer["slices"]) == 19
    assert {Path(hit["path"]).parent.name for hit in answer["hits"]} == {"kind1"}
    assert f"left out: {victim}" in told.err.replace("\n", " ")
    assert "absent does not exist" in told.err


def test_words_of_a_view_in_any_case_and_no_sheet_of_nothing(
    cbmir: Cbmir, volumes: Path, index: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ask = ("search", volumes / "query", "--index", index, "--by", "series", "--runtime", "openvino", "--top", 2)
    assert cbmir(*ask, "--where", "view=Axial", "--format", "json") == 0
    assert len(hits_of(capsys)) == 2
    assert cbmir(*ask, "--where", "view=coronal", "--sheet", tmp_path / "none.png") == 0
    assert "nothing in the index matches" in capsys.readouterr().err
    assert not (tmp_path / "none.png").exists()
    for wrong, said in (
        (("--pooling", "votes", "--locate"), "which --locate needs"),
        (("-",), "reads no standard input"),
    ):
        assert cbmir(*ask, *wrong) == 2
        assert said in capsys.readouterr().err


@pytest.mark.parametrize("protocol", ["dicomweb", "dimse"])
def test_a_series_of_a_pacs_is_a_query(
    cbmir: Cbmir,
    volumes: Path,
    index: Path,
    orthanc: Orthanc,
    protocol: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    files = sorted((volumes / "query").rglob("*.dcm"))
    orthanc.take(*files)
    header = dcmread(files[0], stop_before_pixels=True)
    address = orthanc.dicomweb if protocol == "dicomweb" else orthanc.dimse
    series = f"{address}/studies/{header.StudyInstanceUID}/series/{header.SeriesInstanceUID}"
    connected: list[str] = []
    ask = ("search", "--index", index, "--by", "series", "--runtime", "openvino", "--top", 3, "--format", "json")

    def noted(to: PacsAddress, *more: Any, **named: Any) -> Pacs:
        connected.append(to.root)
        return connect(to, *more, **named)

    monkeypatch.setattr(file_system, "connect", noted)
    assert cbmir(*ask, series) == 0
    by_pacs = json.loads(capsys.readouterr().out)[0]
    assert len(connected) <= 1  # not one for each of its slices
    assert cbmir(*ask, volumes / "query") == 0
    by_folder = json.loads(capsys.readouterr().out)[0]
    assert by_pacs["hits"] == by_folder["hits"]
    assert by_pacs["slices"][0]["path"].startswith(f"{series}/instances/")
