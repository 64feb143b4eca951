from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

Cbmir = Callable[..., int]

pytestmark = pytest.mark.usefixtures("ray_here")


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
        assert cbmir("index", archive / "knee", "--index", index, "--report", report) == 3
    assert json.loads(report.read_text())["left_out_before"] == 1
    assert cbmir("index", archive / "knee", "--index", index, "--retry-left-out", "--report", report) == 3
    assert json.loads(report.read_text())["files_left_out"] == 1
    assert "knee-broken.dcm: corrupt or truncated" in capsys.readouterr().err


def test_what_cannot_be_done_is_one_sentence(
    cbmir: Cbmir,
    archive: Path,
    model_path: Path,
    other_model_path: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    index = tmp_path / "index"

    def fails(message: str, *arguments: object) -> None:
        assert cbmir("index", *arguments) == 1
        assert message in flat(capsys.readouterr().err)

    fails("does not exist", tmp_path / "absent", "--index", index, "--model", model_path)
    fails("name the model that makes it with --model", archive, "--index", index)
    fails("absent.safetensors does not exist", archive, "--index", index, "--model", tmp_path / "absent.safetensors")
    fails("layer 'fcl7' is unknown", archive, "--index", index, "--model", model_path, "--layers", "fcl7")
    fails("no number and no range", archive, "--index", index, "--model", model_path, "--actors", "many")
    fails("more than the 0 GPUs", archive, "--index", index, "--model", model_path, "--gpus", 1)
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
