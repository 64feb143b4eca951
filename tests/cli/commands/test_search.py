from __future__ import annotations

import csv
import io
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.support import phantoms
from tests.support.in_process import jobs_in_process
from tests.support.jobs import small_job
from workers.indexing.job import index_archive

Cbmir = Callable[..., int]


@pytest.fixture(scope="module")
def index(archive: Path, model_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The phantoms, labelled by folder."""
    folder = tmp_path_factory.mktemp("search") / "index"
    with jobs_in_process():
        index_archive(small_job((archive,), model_path, folder, labels="folder"))
    return folder


def answer(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    values: list[dict[str, Any]] = json.loads(capsys.readouterr().out)
    return values


def test_a_table_with_the_prediction_above(
    cbmir: Cbmir, archive: Path, index: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cbmir("search", archive / "eye" / "eye-000.dcm", "--index", index, "--no-class-prediction", "--top", 3) == 0
    title, prediction, header, *rows = capsys.readouterr().out.splitlines()
    assert title.strip().endswith("eye-000.dcm")
    assert prediction.startswith("predicted ")
    assert "searched in the whole index" in prediction
    assert header.split() == ["rank", "distance", "organ", "prob.", "modality", "label", "id", "path"]
    assert [row.split()[0] for row in rows if row.strip()] == ["1", "2", "3"]


def test_the_same_answer_as_json_and_csv(
    cbmir: Cbmir, archive: Path, index: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    query = archive / "knee" / "knee-001.dcm"
    arguments = ("search", query, "--index", index, "--no-class-prediction", "--top", 4)
    assert cbmir(*arguments, "--format", "json") == 0
    [found] = answer(capsys)
    assert found["label"] == "knee"
    assert [hit["rank"] for hit in found["hits"]] == [1, 2, 3, 4]
    assert all(hit["wrong_class"] == (hit["label"] != "knee") for hit in found["hits"])
    assert Path(found["hits"][0]["path"]).is_file()
    assert cbmir(*arguments, "--format", "csv") == 0
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert [row["id"] for row in rows] == [hit["id"] for hit in found["hits"]]
    assert {row["query"] for row in rows} == {str(query)}


def test_the_class_decides_where_is_searched(
    cbmir: Cbmir, archive: Path, index: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    query = archive / "chest" / "chest-001.dcm"

    def found(*arguments: object) -> dict[str, Any]:
        assert cbmir("search", query, "--index", index, "--top", 50, "--format", "json", *arguments) == 0
        return answer(capsys)[0]

    within = found("--any-modality")
    assert within["searched_organs"] == [within["organ"]]
    assert {hit["organ"] for hit in within["hits"]} == {within["organ"]}
    named = found("--organ", "knee", "--organ", "eye")
    assert named["searched_organs"] == ["knee", "eye"]
    assert {hit["organ"] for hit in named["hits"]} <= {"knee", "eye"}
    same_kind = found("--no-class-prediction")
    assert same_kind["searched_organs"] == []
    assert "CR" in same_kind["searched_modalities"]
    assert {hit["modality"] for hit in same_kind["hits"]} == {"CR", "DX", "MG"}
    everywhere = found("--no-class-prediction", "--any-modality")
    assert everywhere["searched_modalities"] == []
    assert len(everywhere["hits"]) == 27


def test_a_query_by_openvino_finds_what_torch_has_indexed(
    cbmir: Cbmir, archive: Path, index: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    query = archive / "chest" / "chest-001.dcm"
    found = []
    for runtime in ("torch", "openvino"):
        base = ("search", query, "--index", index, "--format", "json", "--exclude-same", "none")
        assert cbmir(*base, "--runtime", runtime) == 0
        found.append(answer(capsys)[0])
    by_torch, by_openvino = found
    assert by_openvino["organ"] == by_torch["organ"]
    assert [hit["id"] for hit in by_openvino["hits"]] == [hit["id"] for hit in by_torch["hits"]]
    assert by_openvino["hits"][0]["path"].endswith("chest-001.dcm")


def test_a_search_by_openvino_does_without_torch(archive: Path, index: Path) -> None:
    arguments = ["search", str(archive / "eye" / "eye-001.dcm"), "--index", str(index), "--runtime", "openvino"]
    program = f"import sys; from cli.app import run; assert run({arguments!r}) == 0; print(sorted(sys.modules))"
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    assert "'openvino'" in done.stdout
    for heavy in ("torch", "ray", "qdrant_client", "sklearn", "scipy"):
        assert f"'{heavy}'" not in done.stdout, heavy


def test_several_queries_standard_input_and_stored_pictures(program: Path, archive: Path, index: Path) -> None:
    files = [archive / "eye" / "eye-001.dcm", archive / "eye" / "absent.dcm", "-"]
    uid = phantoms.uid("brain", 2)
    command = [program, "search", *files, "--like", uid, "--index", index, "--format", "json", "--no-class-prediction"]
    command.append("--any-modality")
    with (archive / "knee" / "knee-002.dcm").open("rb") as query:
        result = subprocess.run(list(map(str, command)), stdin=query, check=False, capture_output=True, text=True)
    assert result.returncode == 3
    assert "absent.dcm: unreadable file" in result.stderr
    found = json.loads(result.stdout)
    assert [one["query"] for one in found] == [str(files[0]), "standard input", uid]
    assert [one["label"] for one in found] == ["eye", "knee", "brain"]
    assert all(len(one["hits"]) == 10 for one in found)


def test_filters_groups_and_exclusion(
    cbmir: Cbmir, archive: Path, index: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def hits(*arguments: object) -> list[dict[str, Any]]:
        query = archive / "brain" / "brain-001.dcm"
        base: tuple[object, ...] = ("search", query, "--index", index, "--format", "json", "--no-class-prediction")
        if "--where" not in arguments:
            base = (*base, "--any-modality")
        assert cbmir(*base, "--top", 40, *arguments) == 0
        found: list[dict[str, Any]] = answer(capsys)[0]["hits"]
        return found

    series = phantoms.uid("brain", "series", 0)
    assert len(hits()) == 27
    assert {hit["modality"] for hit in hits("--where", "modality=CT", "--where", "modality=CR")} == {"CT", "CR"}
    assert series not in {hit["series_instance_uid"] for hit in hits("--exclude-same", "series")}
    assert hits("--exclude-same", "none")[0]["distance"] == pytest.approx(0, abs=0.5)
    grouped = [hit["series_instance_uid"] for hit in hits("--group-by", "series")]
    assert len(grouped) == len(set(grouped)) == 7
    assert [hit["id"] for hit in hits("--exact")] == [hit["id"] for hit in hits()]


def test_a_sheet_shows_query_and_hits_and_frames_wrong_ones_red(
    cbmir: Cbmir, archive: Path, index: Path, tmp_path: Path
) -> None:
    sheet = tmp_path / "sheet.png"
    query = archive / "eye" / "eye-000.dcm"
    base = ("search", query, "--index", index, "--no-class-prediction", "--any-modality", "--top", 27)
    assert cbmir(*base, "--sheet", sheet) == 0
    picture = np.asarray(Image.open(sheet).convert("RGB")).reshape(-1, 3)
    assert (picture == (30, 90, 200)).all(axis=1).sum() > 1000  # the query's frame
    red = (picture == (214, 40, 40)).all(axis=1).sum()
    assert red / (4 * 5 * 197) == pytest.approx(24, abs=1)  # all but three of the hits are of other classes
    assert cbmir("search", query, "--index", index, "--sheet", tmp_path / "absent" / "sheet.png") == 2

    page = tmp_path / "sheet.html"
    assert cbmir(*base, "--sheet", page) == 0
    text = page.read_text()
    assert [text.count(f'<figure class="{state}">') for state in ("query", "right", "wrong")] == [1, 3, 24]
    assert text.count("data:image/jpeg;base64,") == 28
    assert "http" not in text  # it needs nothing but itself


def test_thumbnails_are_drawn_in_the_terminal(
    cbmir: Cbmir, archive: Path, index: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ("search", archive / "eye" / "eye-000.dcm", "--index", index, "--top", 2, "--no-class-prediction")
    assert cbmir(*arguments) == 0
    plain = capsys.readouterr().out
    assert cbmir(*arguments, "--thumbnails") == 0
    drawn = capsys.readouterr().out
    assert "query: " in drawn
    assert len(drawn) > len(plain) + 500


def test_multi_frame_queries(cbmir: Cbmir, archive: Path, index: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cine = archive / "brain" / "brain-cine.dcm"
    assert cbmir("search", cine, "--index", index, "--frame", 2, "--format", "json", "--no-class-prediction") == 0
    [found] = answer(capsys)
    assert found["frame"] == 2
    assert cbmir("search", cine, "--index", index, "--frame", 9) == 1
    assert "there is no frame 9" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message", "code"),
    [
        ((), "there is nothing to search for", 2),
        (("QUERY", "--organ", "spleen"), "no organ 'spleen'", 2),
        (("QUERY", "--organ", "eye", "--no-class-prediction"), "exclude each other", 2),
        (("QUERY", "--layer", "fcl2"), "the index stores fcl1, not fcl2", 1),
        (("QUERY", "--where", "modality"), "has no '='", 2),
        (("QUERY", "--where", "patient=x"), "no field 'patient'", 2),
        (("QUERY", "--format", "xml"), "'xml' is not one of", 2),
        (("QUERY", "--exclude-same", "person"), "'person' is not one of", 2),
        (("QUERY", "--top", "0"), "greater than or equal to 1", 2),
        (("QUERY", "--model", "absent.safetensors"), "absent.safetensors does not exist", 1),
        (("--like", "9.9.9"), r"holds no picture 9.9.9", 1),
    ],
)
def test_what_cannot_be_answered_is_one_sentence(
    cbmir: Cbmir,
    archive: Path,
    index: Path,
    capsys: pytest.CaptureFixture[str],
    arguments: tuple[str, ...],
    message: str,
    code: int,
) -> None:
    query = str(archive / "eye" / "eye-000.dcm")
    assert cbmir("search", *[query if one == "QUERY" else one for one in arguments], "--index", index) == code
    captured = capsys.readouterr()
    assert message in captured.err.replace("\n", " ")
    assert captured.err.count("Error: ") == 1


def test_another_model_is_refused(
    cbmir: Cbmir, archive: Path, index: Path, other_model_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    query = archive / "eye" / "eye-000.dcm"
    assert cbmir("search", query, "--index", index, "--model", other_model_path) == 1
    assert "did not make" in capsys.readouterr().err


def test_no_hits_are_a_table_without_rows_and_no_answer_is_no_sheet(
    cbmir: Cbmir, archive: Path, index: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    query, sheet = archive / "knee" / "knee-001.dcm", tmp_path / "sheet.png"
    nothing = ("search", query, "--index", index, "--where", "modality=XX", "--format", "csv")
    assert cbmir(*nothing) == 0
    assert capsys.readouterr().out.startswith("query,query_organ,query_best_guess,rank,distance,")
    sheet.write_text("an older answer")
    assert cbmir("search", tmp_path / "absent.dcm", "--index", index, "--sheet", sheet) == 2
    assert "fault of this program" not in capsys.readouterr().err
    assert sheet.read_text() == "an older answer"
