from __future__ import annotations

import json
import shutil
import zipfile
from collections.abc import Callable
from io import StringIO
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from PIL import Image

from cli.rendering import job_report
from index.address import parse_address
from index.answers.sheet import GAP, TILE
from model.network.bundled import find_model
from tests.support.models import encoder_for_processors
from workers.indexing.report import JobReport
from workers.indexing.settings import JobSettings

Cbmir = Callable[..., int]

pytestmark = pytest.mark.usefixtures("without_ray")


def flat(text: str) -> str:
    return " ".join(text.split())


def test_exit_codes_report_and_memory_of_the_model(
    cbmir: Cbmir, archive: Path, model_path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    index, report = tmp_path / "index", tmp_path / "report.json"
    dry = ("index", archive, "--index", index, "--model", model_path, "--dry-run")
    assert cbmir(*dry) == 0
    assert "new files 26" in flat(capsys.readouterr().out)
    assert not index.exists()

    assert cbmir("index", archive / "eye", "--index", index, "--model", model_path) == 0
    assert "4 files indexed as 4 points, 0 unchanged, 0 left out" in capsys.readouterr().out
    # The index remembers its model; a broken file makes exit code 3, then and as long as it is there.
    for _ in range(2):
        assert cbmir("index", archive / "knee", "--index", index, "--report", report, "--force") == 3
    assert json.loads(report.read_text())["left_out_before"] == 1
    assert cbmir("index", archive / "knee", "--index", index, "--retry-left-out", "--report", report, "--force") == 3
    assert json.loads(report.read_text())["files_left_out"] == 1
    assert "knee-broken.dcm: corrupt or truncated" in capsys.readouterr().err


def test_an_index_of_an_older_schema_is_made_anew_as_it_was(
    cbmir: Cbmir, archive: Path, model_path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    index = tmp_path / "index"
    command = ("index", archive / "eye", "--index", index)
    assert cbmir(*command, "--model", model_path, "--path-privacy", "hash", "--layers", "fcl2") == 0
    values = json.loads((index / "index.json").read_text())
    (index / "index.json").write_text(json.dumps({**values, "schema_version": 2}))
    assert cbmir(*command) == 1
    assert "schema version 2" in flat(capsys.readouterr().err)
    assert cbmir(*command, "--reembed") == 0
    renewed = json.loads((index / "index.json").read_text())
    assert {**renewed, "roots": values["roots"]} == values  # its paths hidden as before, its layers the same


def test_what_cannot_be_done_is_one_sentence(
    cbmir: Cbmir,
    archive: Path,
    model_path: Path,
    other_model_path: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    index = tmp_path / "index"

    def fails(message: str, *arguments: object, code: int = 1) -> None:
        assert cbmir("index", *arguments) == code
        assert message in flat(capsys.readouterr().err)

    fails("does not exist", tmp_path / "absent", "--index", index, "--model", model_path)
    fails("name the model with --model", archive, "--index", index, "--reembed", code=2)
    fails("absent.safetensors does not exist", archive, "--index", index, "--model", tmp_path / "absent.safetensors")
    fails("no layer 'fcl7': did you mean", archive, "--index", index, "--model", model_path, "--layers", "fcl7", code=2)
    fails("no number and no range", archive, "--index", index, "--model", model_path, "--actors", "many", code=2)
    fails("'tensorflow' is not one of", archive, "--index", index, "--runtime", "tensorflow", code=2)
    fails(
        "leave --gpus out",
        archive,
        "--index",
        index,
        "--model",
        model_path,
        "--runtime",
        "openvino",
        "--gpus",
        1,
        code=2,
    )
    on_torch = ("--model", model_path, "--runtime", "torch")
    fails("more than the 0 GPUs", archive, "--index", index, *on_torch, "--gpus", 1, code=2)
    fails("not empty and not an index", archive, "--index", archive, "--model", model_path)
    shutil.rmtree(index)
    assert cbmir("index", archive / "eye", "--index", index, "--model", model_path) == 0
    fails("made by another model", archive, "--index", index, "--model", other_model_path)
    moved = tmp_path / "moved.safetensors"
    shutil.copy(model_path, moved)
    assert cbmir("index", archive / "eye", "--index", index, "--model", moved) == 0
    moved.unlink()
    fails("is gone from", archive, "--index", index)


def test_an_empty_archive_is_no_error(cbmir: Cbmir, model_path: Path, tmp_path: Path) -> None:
    (tmp_path / "archive").mkdir()
    assert cbmir("index", tmp_path / "archive", "--index", tmp_path / "index", "--model", model_path) == 0


def test_a_zip_file_and_a_list_are_indexed_searched_and_shown(
    cbmir: Cbmir,
    archive: Path,
    model_path: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    packed, index, sheet = tmp_path / "scans.zip", tmp_path / "index", tmp_path / "sheet.png"
    with zipfile.ZipFile(packed, "w") as file:
        for path in (archive / "eye").iterdir():
            file.write(path, f"eye/{path.name}")
    assert cbmir("index", packed, "--index", index, "--model", model_path, "--labels", "folder") == 0
    names = [f"{path}\n" for path in sorted((archive / "abdomen").iterdir())]
    monkeypatch.setattr("sys.stdin", StringIO("".join(names)))
    assert cbmir("index", "-", "--index", index) == 0
    assert f"{len(names)} files indexed" in capsys.readouterr().out

    query = archive / "eye" / "eye-000.dcm"
    arguments = ("search", query, "--index", index, "--no-class-prediction", "--exclude-same", "none", "--sheet", sheet)
    assert cbmir(*arguments, "--format", "json") == 0
    hits = json.loads(capsys.readouterr().out)[0]["hits"]
    assert hits[0]["path"] == f"zip://eye/eye-000.dcm::{packed}"
    assert (hits[0]["label"], round(hits[0]["distance"], 1)) == ("eye", 0.0)
    with Image.open(sheet) as picture:  # the query and its own copy, read from the zip file, are drawn alike
        pixels = np.asarray(picture)
    left, right = (pixels[GAP : GAP + TILE, start : start + TILE] for start in (GAP, 2 * GAP + TILE))
    assert left.std() > 10
    assert (left == right).all()


def test_removal_asks_somebody_and_says_what_it_did(
    cbmir: Cbmir, archive: Path, model_path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    index = tmp_path / "index"
    assert cbmir("index", archive / "eye", "--index", index, "--model", model_path) == 0
    assert cbmir("index", archive / "eye", "--index", index, "--prune") == 2
    assert "nobody can be asked here: add --yes" in flat(capsys.readouterr().err)
    assert cbmir("index", archive / "eye", "--index", index, "--prune", "--yes") == 0
    assert cbmir("delete", "--index", index, "--where", "modality=OP") == 2
    assert cbmir("delete", "--index", index, "--where", "modality=OP", "--yes") == 0
    assert "4 points deleted" in capsys.readouterr().out
    assert cbmir("delete", "--index", index, "--yes") == 2
    assert cbmir("delete", "--index", index, "--where", "modality=OP", "--archive", archive, "--yes") == 2
    assert flat(capsys.readouterr().err).count("either by --where or by --archive") == 2
    assert cbmir("delete", "--index", index, "--archive", archive, "--yes") == 0
    assert "has forgotten 4 files" in flat(capsys.readouterr().out)


def test_a_log_for_machines(
    cbmir: Cbmir, archive: Path, model_path: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    index, folder = tmp_path / "index", Path(shutil.copytree(archive / "knee", tmp_path / "knee"))
    assert cbmir("index", folder, "--index", index, "--model", model_path, "--log-json") == 3
    lines = [json.loads(line) for line in capfd.readouterr().err.splitlines()]
    events = {line["event"]: line for line in lines}
    assert {"starting", "optimizing", "done", "left out", "report"} <= events.keys()
    assert events["left out"]["level"] == "WARNING"
    assert events["left out"]["path"].endswith("knee-broken.dcm")
    assert (events["report"]["files_indexed"], events["report"]["bottleneck"] is None) == (4, False)
    shutil.rmtree(folder)
    folder.mkdir()
    assert cbmir("index", folder, "--index", index, "--prune", "--yes", "--log-json") == 1
    lines = [json.loads(line) for line in capfd.readouterr().err.splitlines()]
    [report] = [line for line in lines if line["event"] == "report"]
    assert (report["outcome"], "is it mounted" in report["error"], lines[-1]["level"]) == ("failed", True, "ERROR")
    assert cbmir("index", folder, "--index", index, "--layers", "fcl2", "--log-json") == 1
    (line,) = capfd.readouterr().err.splitlines()
    assert json.loads(line)["level"] == "ERROR"


def test_a_gpu_that_is_left_alone_is_told(
    model_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(job_report, "GPU", tmp_path)
    encoder = encoder_for_processors(tmp_path / "encoder")
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CPUExecutionProvider"])
    for model, told in ((encoder, True), (find_model(), False), (model_path, False)):
        report = JobReport([], "index", str(model), "", "", points=1)
        job_report.print_report(report, JobSettings((), parse_address(tmp_path), model))
        assert ("a GPU was left alone" in flat(capsys.readouterr().err)) == told
