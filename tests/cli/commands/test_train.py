from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from model.errors import TrainingInterrupted
from model.network.metadata import read_metadata
from model.training.loop import Observer, train
from model.training.recipes import recipe
from model.training.repository import read_repository, split_repository
from tests.support import phantoms


class StopsAtOnce(Observer):
    def stop(self) -> bool:
        return True


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("repository")
    phantoms.write_repository(folder, images=5, side=64)
    return folder


def test_an_interrupted_training_is_not_replaced_and_belongs_to_its_data(
    cbmir: Callable[..., int], repository: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    model = tmp_path / "model.safetensors"
    files = split_repository(read_repository(repository), seed=0)
    with pytest.raises(TrainingInterrupted):
        train(files, recipe("fast", epochs=40), model, width=64, observer=StopsAtOnce())
    assert read_metadata(model).classes == tuple(phantoms.ORGANS)
    assert cbmir("train", repository, "--output", model, "--epochs", 40) == 2
    assert "holds an interrupted training" in " ".join(capfd.readouterr().err.split())
    assert cbmir("train", repository, "--output", model, "--epochs", 3, "--resume", "--width", 64) == 2
    assert "belongs to other data, another recipe or seed" in " ".join(capfd.readouterr().err.split())


def test_training_ends_with_a_table(
    cbmir: Callable[..., int], repository: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    model = tmp_path / "model.safetensors"
    assert (
        cbmir("train", repository, "--output", model, "--epochs", 1, "--workers", 2, "--width", 64) == 3
    )  # a file is broken
    captured = capfd.readouterr()
    for organ in phantoms.ORGANS:
        assert organ in captured.out
    assert "accuracy" in captured.out
    assert "knee-broken.dcm: corrupt or truncated" in captured.err
    metadata = read_metadata(model)
    assert metadata.recipe["name"] == "fast"
    assert metadata.width == 64
    assert metadata.measures
    assert not list(tmp_path.glob("*.training"))
    written = model.stat()
    assert cbmir("train", repository, "--output", model, "--epochs", 1) == 2  # a finished model is kept
    assert "is there already" in " ".join(capfd.readouterr().err.split())
    assert model.stat() == written


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
