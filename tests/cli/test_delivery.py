"""Where answers go beside the screen: to a viewer's address, the audit log, and a PACS."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from getpass import getuser
from pathlib import Path

import pytest
from pydicom import dcmread

from tests.support.in_process import jobs_in_process
from tests.support.jobs import small_job
from tests.support.orthanc import Orthanc
from tests.support.volumes import make_body, write_series
from workers.indexing.job import index_archive

Cbmir = Callable[..., int]

VIEWER = "https://viewer.example/?s={study}"


@pytest.fixture(scope="module")
def volumes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three series of six slices."""
    folder = tmp_path_factory.mktemp("volumes")
    for person in range(3):
        write_series(folder / "archive" / str(person), make_body(1, person), str(person), slices=6, side=32)
    return folder


@pytest.fixture(scope="module")
def index(volumes: Path, model_path: Path) -> Path:
    with jobs_in_process():
        index_archive(small_job((volumes / "archive",), model_path, volumes / "index", viewer_url=VIEWER))
    return volumes / "index"


def a_query(volumes: Path) -> Path:
    return min((volumes / "archive" / "0").iterdir())


@pytest.mark.parametrize("by", ["picture", "series"])
def test_an_index_keeps_the_address_of_its_viewer(
    cbmir: Cbmir, volumes: Path, index: Path, by: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    query = a_query(volumes) if by == "picture" else volumes / "archive" / "0"
    ask = ("search", query, "--index", index, "--by", by, "--runtime", "openvino", "--top", 3)
    assert cbmir(*ask, "--format", "json") == 0
    [answer] = json.loads(capsys.readouterr().out)
    for hit in answer["hits"]:
        assert hit["viewer"] == f"https://viewer.example/?s={hit['study_instance_uid']}"
    assert cbmir(*ask, "--format", "csv", "--viewer-url", "http://other/{series}") == 0
    for row in csv.DictReader(io.StringIO(capsys.readouterr().out)):
        assert row["viewer"] == f"http://other/{row['series_instance_uid']}"
    assert cbmir(*ask, "--sheet", tmp_path / "answer.html") == 0
    assert "https://viewer.example/?s=" in (tmp_path / "answer.html").read_text()


def test_another_job_may_name_another_viewer(
    cbmir: Cbmir, volumes: Path, model_path: Path, without_ray: None, tmp_path: Path
) -> None:
    index = tmp_path / "index"
    job = ("index", volumes / "archive" / "0", "--index", index)
    for more, kept in (
        (("--model", model_path), ""),
        (("--viewer-url", VIEWER), VIEWER),
        ((), VIEWER),
        (("--viewer-url", "https://new/{study}"), "https://new/{study}"),
        (("--reembed",), "https://new/{study}"),
    ):
        assert cbmir(*job, *more) == 0
        assert json.loads((index / "index.json").read_text())["viewer_url"] == kept
    assert cbmir(*job, "--viewer-url", "https://new/{patient}") == 2


def test_who_asked_what_is_noted(cbmir: Cbmir, volumes: Path, index: Path, tmp_path: Path) -> None:
    log, series = tmp_path / "audit.jsonl", volumes / "archive" / "0"
    header = dcmread(a_query(volumes))
    for by, query in (("picture", a_query(volumes)), ("series", series)):
        ask = ("search", query, "--index", index, "--by", by, "--runtime", "openvino", "--top", 2)
        assert cbmir(*ask, "--audit-log", log) == 0
    picture, whole = map(json.loads, log.read_text().splitlines())
    assert {picture["who"], whole["who"]} == {getuser()}
    assert len(picture["hits"]) == len(whole["hits"]) == 2
    assert whole["query"] == header.SeriesInstanceUID
    assert str(volumes) not in log.read_text().replace(str(index), "")
    assert log.stat().st_mode & 0o077 == 0


def test_without_a_hit_nothing_is_sent(
    cbmir: Cbmir, index: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "query.dcm").write_bytes(b"no picture")
    ask = ("search", tmp_path / "query.dcm", "--index", index, "--runtime", "openvino", "--send", "PACS@127.0.0.1:1")
    assert cbmir(*ask) == 1
    said = capsys.readouterr().err
    assert "query.dcm" in said
    assert "PACS@" not in said


@pytest.mark.parametrize("by", ["picture", "series"])
def test_key_objects_of_hits_are_sent(
    cbmir: Cbmir, volumes: Path, index: Path, orthanc: Orthanc, by: str, capfd: pytest.CaptureFixture[str]
) -> None:
    query = a_query(volumes) if by == "picture" else volumes / "archive" / "0"
    ask = ("search", query, "--index", index, "--by", by, "--exclude-same", "series", "--runtime", "openvino")
    assert cbmir(*ask, "--send", orthanc.dimse.removeprefix("dimse://")) == 0
    assert "sent to ORTHANC@127.0.0.1:" in capfd.readouterr().err
    stored = [
        orthanc.ask("GET", f"instances/{one}/simplified-tags").json() for one in orthanc.ask("GET", "instances").json()
    ]
    assert {one["Modality"] for one in stored} == {"KO"}
    others = [dcmread(min((volumes / "archive" / person).iterdir())) for person in ("1", "2")]
    assert {one["StudyInstanceUID"] for one in stored} == {str(one.StudyInstanceUID) for one in others}
    assert cbmir(*ask, "--send", "https://pacs/dicom-web") == 2
