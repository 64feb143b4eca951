from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from model.errors import CheckpointError, RepositoryError, SettingError, TrainingInterrupted
from model.images.reading import read_frames
from model.network import calibration
from model.network.checkpoint import CENTROIDS, fingerprint, save_checkpoint
from model.network.embedder import Embedder
from model.network.metadata import read_metadata
from model.training import loop
from model.training.loop import Epoch, Observer
from model.training.recipes import RECIPES, recipe
from model.training.repository import LabelledFile, read_repository, split_repository
from tests.support import phantoms
from tests.support.models import NARROW, make_model, prepared

train = partial(loop.train, width=NARROW)
FEW = replace(recipe("fast", epochs=2), batch_size=8, sizes=((0.0, 96), (0.5, 224)))


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> list[LabelledFile]:
    folder = tmp_path_factory.mktemp("repository")
    phantoms.write_repository(folder, images=6, side=64)
    return split_repository(read_repository(folder), seed=0)


class StopAfter(Observer):
    """Stops after so many updates."""

    def __init__(self, updates: int) -> None:
        self.left = updates

    def stop(self) -> bool:
        self.left -= 1
        return self.left <= 0


def test_training_interrupted_and_resumed_is_training(repository: list[LabelledFile], tmp_path: Path) -> None:
    epochs: list[Epoch] = []

    class Watch(Observer):
        def epoch(self, epoch: Epoch) -> None:
            epochs.append(epoch)

    result = train(repository, FEW, tmp_path / "whole", observer=Watch())
    assert [epoch.number for epoch in epochs] == [1, 2]
    assert result.measures
    assert len(result.left_out) == 1
    assert "knee-broken" in result.left_out[0].path
    assert result.metadata.data["images"]["train"] >= 20
    assert result.metadata.width == NARROW

    # In the middle of the first epoch, then at its end.
    output = tmp_path / "parts"
    with pytest.raises(TrainingInterrupted, match="--resume"):
        train(repository, FEW, output, observer=StopAfter(1))
    assert Embedder.load(output).metadata.measures is None
    with pytest.raises(TrainingInterrupted):
        train(repository, FEW, output, resume=True, observer=StopAfter(3))
    train(repository, FEW, output, resume=True)
    assert not output.with_name("parts.training").exists()
    whole, parts = load_file(tmp_path / "whole"), load_file(output)
    assert all(torch.equal(whole[name], parts[name]) for name in whole)


def test_resuming_refuses_what_does_not_belong(repository: list[LabelledFile], tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no training to resume"):
        train(repository, FEW, tmp_path / "model", resume=True)
    with pytest.raises(TrainingInterrupted):
        train(repository, FEW, tmp_path / "model", observer=StopAfter(1))
    with pytest.raises(SettingError, match="other data, another recipe or seed"):
        train(repository, FEW, tmp_path / "model", resume=True, seed=5)
    with pytest.raises(SettingError, match="other data, another recipe or seed"):
        train(repository, FEW, tmp_path / "model", resume=True, width=NARROW // 2)


def test_a_few_updates_learn_something(tmp_path: Path) -> None:
    folder = tmp_path / "repository"
    for organ in ("chest", "knee"):
        (folder / organ).mkdir(parents=True)
        for number in range(24):
            ds = phantoms.dicom([phantoms.draw(organ, number, 64)], organ, number)
            ds.save_as(folder / organ / str(number), enforce_file_format=True)
    files = split_repository(read_repository(folder), seed=0)
    result = train(files, replace(recipe("fast", epochs=5), batch_size=8), tmp_path / "model", width=1024)
    assert result.measures
    assert result.measures.accuracy > 0.9
    embedder = Embedder.load(tmp_path / "model")
    images = [prepared(next(read_frames(folder / organ / "3")).pixels) for organ in ("chest", "knee")]
    for number, image in enumerate(images):
        assert embedder.embed(image[None]).probabilities[0].argmax() == number


def test_a_trained_network_is_where_fine_tuning_begins(repository: list[LabelledFile], tmp_path: Path) -> None:
    model_path = make_model(tmp_path / "untrained", seed=0)
    few = replace(recipe("fine-tune", epochs=1), batch_size=16, learning_rate=1e-6)
    result = train(repository, few, tmp_path / "same", start=model_path)
    assert result.metadata.data["from"] == read_metadata(model_path).fingerprint
    begun, tuned = load_file(model_path), load_file(tmp_path / "same")
    for name in ("convolutional.cvl1.weight", "fcl1.weight", "output.weight"):
        assert torch.allclose(begun[name], tuned[name], atol=1e-4), name
        assert not torch.equal(begun[name], tuned[name]), name

    others = [file for file in repository if file.label in {"eye", "knee"}]
    train(others, few, tmp_path / "other", start=model_path)
    tuned = load_file(tmp_path / "other")
    assert torch.allclose(begun["fcl1.weight"], tuned["fcl1.weight"], atol=1e-4)
    assert len(tuned["output.weight"]) == 2

    with pytest.raises(SettingError, match="take --recipe fine-tune"):
        train(repository, FEW, tmp_path / "not", start=model_path)


def test_a_class_without_a_readable_image_is_named(tmp_path: Path) -> None:
    files = []
    for label in ("good", "bad"):
        for number in range(4):
            path = tmp_path / f"{label}{number}"
            phantoms.dicom([phantoms.draw("eye", number, 32)], "eye", number).save_as(path, enforce_file_format=True)
            files.append(LabelledFile(path, label, str(path), "train"))
            if label == "bad":
                path.write_bytes(path.read_bytes()[:400])
    with pytest.raises(RepositoryError, match="no training image of class 'bad' could be read"):
        train(files, FEW, tmp_path / "model")


def test_the_papers_recipe_is_to_the_letter() -> None:
    paper = RECIPES["paper"]
    assert (paper.optimizer, paper.learning_rate, paper.schedule) == ("sgd", 1e-4, "constant")
    assert (paper.epochs, paper.batch_size, paper.initialisation) == (30, 1, "paper")
    assert not paper.augment
    with pytest.raises(SettingError, match="no recipe 'slow'"):
        recipe("slow")
    with pytest.raises(SettingError, match="at least 1"):
        recipe("fast", epochs=0)


def test_images_grow_during_the_training() -> None:
    fast = RECIPES["fast"]
    sizes = [fast.size_at(epoch) for epoch in range(fast.epochs)]
    assert sizes == sorted(sizes)
    assert sizes[0] < sizes[-1] == 224
    assert {RECIPES["paper"].size_at(epoch) for epoch in range(30)} == {224}
    for epochs in (1, 2, 3):
        assert recipe("fast", epochs=epochs).size_at(epochs - 1) == 224


def test_the_network_of_a_checkpoint_is_the_plain_one(repository: list[LabelledFile], tmp_path: Path) -> None:
    train(repository, replace(FEW, epochs=1), tmp_path / "model")
    assert not [name for name in load_file(tmp_path / "model") if "norm" in name]
    assert Embedder.load(tmp_path / "model").metadata.recipe["normalise"]


def test_the_validation_part_calibrates(
    repository: list[LabelledFile], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    once = replace(FEW, epochs=1)
    assert train(repository, once, tmp_path / "few").metadata.calibration is None
    monkeypatch.setattr(calibration, "LEAST_IMAGES", 2)
    stored = train(repository, once, tmp_path / "model").metadata
    assert stored.calibration
    assert stored.calibration.images == stored.data["images"]["validation"]
    assert read_metadata(tmp_path / "model").calibration == stored.calibration
    # Equal weights that call other images unknown are another model for an index.
    weights = load_file(tmp_path / "model")
    assert fingerprint(weights, stored.classes, stored.calibration) == stored.fingerprint
    stricter = replace(stored.calibration, threshold=1.0)
    assert fingerprint(weights, stored.classes, stricter) != stored.fingerprint
    held_out = [
        prepared(next(read_frames(file.path)).pixels)
        for file in repository
        if file.split == "validation" and "broken" not in file.path.name
    ]
    assert Embedder.load(tmp_path / "model").embed(np.stack(held_out)).known.mean() >= 0.5
    impossible = replace(stored.calibration, threshold=1.1)  # no cosine is that large
    save_checkpoint(tmp_path / "strict", weights, replace(stored, calibration=impossible))
    assert not Embedder.load(tmp_path / "strict").embed(np.stack(held_out)).known.any()
    plain = {name: tensor for name, tensor in weights.items() if name != CENTROIDS}
    save_checkpoint(tmp_path / "lacking", plain, stored)
    with pytest.raises(CheckpointError, match="mean features"):
        Embedder.load(tmp_path / "lacking")
