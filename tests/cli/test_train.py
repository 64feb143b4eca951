from __future__ import annotations

import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from model.metadata import read_metadata
from tests import phantoms


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("repository")
    phantoms.write_repository(folder, images=5, side=64)
    return folder


def test_ctrl_c_keeps_what_was_learned_and_resume_goes_on(
    program: Path, cbmir: Callable[..., int], repository: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    model = tmp_path / "model.safetensors"
    command = [program, "train", repository, "--output", model, "--epochs", 40]
    with subprocess.Popen(list(map(str, command)), stderr=subprocess.PIPE, text=True, bufsize=1) as process:
        assert process.stderr
        for line in process.stderr:
            if line.startswith("epoch 1:"):
                process.send_signal(signal.SIGINT)
                break
        _, text = process.communicate(timeout=120)
    assert process.returncode == 130
    assert "holds what was learned" in (said := " ".join(text.split()))
    assert "go on with --resume" in said
    assert read_metadata(model).classes == tuple(phantoms.ORGANS)

    assert cbmir("train", repository, "--output", model, "--epochs", 40) == 2
    assert "holds an interrupted training" in " ".join(capfd.readouterr().err.split())
    assert cbmir("train", repository, "--output", model, "--epochs", 3, "--resume") == 2
    assert "belongs to other data, another recipe or seed" in " ".join(capfd.readouterr().err.split())


def test_training_ends_with_a_table(
    cbmir: Callable[..., int], repository: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    model = tmp_path / "model.safetensors"
    assert cbmir("train", repository, "--output", model, "--epochs", 1, "--workers", 2) == 3  # a file is broken
    captured = capfd.readouterr()
    for organ in phantoms.ORGANS:
        assert organ in captured.out
    assert "accuracy" in captured.out
    assert "knee-broken.dcm: corrupt or truncated" in captured.err
    metadata = read_metadata(model)
    assert metadata.recipe["name"] == "fast"
    assert metadata.measures
    assert not list(tmp_path.glob("*.training"))


def test_what_cannot_be_trained_is_one_sentence(
    cbmir: Callable[..., int], repository: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    def fails(message: str, *arguments: object, code: int = 1) -> None:
        assert cbmir("train", *arguments) == code
        assert message in " ".join(capfd.readouterr().err.split())

    (tmp_path / "empty").mkdir()
    fails("does not exist", tmp_path / "absent")
    fails("holds no files", tmp_path / "empty")
    fails("'slow' is not one of 'fast'", repository, "--recipe", "slow", code=2)
    fails("make the folder", repository, "--output", tmp_path / "absent" / "model.safetensors", code=2)
    fails("device 'abacus' cannot be used", repository, "--device", "abacus", "--output", tmp_path / "m", code=2)
