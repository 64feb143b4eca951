from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from model.encoders.importing import ImportOptions, import_encoder
from model.encoders.torchvision_operators import declare_torchvision_operators
from model.errors import CheckpointError, Interrupted, RepositoryError, SettingError
from model.network.bundled import find_model
from model.network.embedder import Embedder
from model.network.encoder import read_encoder
from model.network.heads import default_layers, describe_heads
from model.training.loading import load_repository
from model.training.repository import LabelledFile, split_repository
from model.training.tuning import TuningObserver, TuningStep, tune_encoder
from tests.support import phantoms
from tests.support.models import timm_encoder, transformers_folder


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return timm_encoder(tmp_path_factory.mktemp("encoder") / "mine")


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[LabelledFile]:
    """Two organs in sixteen pictures each."""
    folder = tmp_path_factory.mktemp("repository")
    labelled = []
    for organ in ("eye", "knee"):
        for number in range(16):
            path = folder / f"{organ}-{number}.dcm"
            phantoms.dicom([phantoms.draw(organ, number, 48)], organ, number).save_as(path, enforce_file_format=True)
            labelled.append(LabelledFile(path=path, label=organ, group=path.name))
    return split_repository(labelled, seed=0)


class Losses(TuningObserver):
    """Keeps them; may stop."""

    def __init__(self, last: int = 1000) -> None:
        self.losses: list[float] = []
        self._last = last

    def step(self, step: TuningStep) -> None:
        self.losses.append(step.loss)

    def stop(self) -> bool:
        return len(self.losses) >= self._last


def apart(model: Path, files: list[LabelledFile]) -> float:
    """How much farther pictures of other organs are than those of the same, by what a new index stores."""
    embedder = Embedder.load(model)
    parts, _ = load_repository(files, ("eye", "knee"), prepare=embedder.preparation)
    [layer] = default_layers(model)
    features = embedder.embed(parts["test"].images, (layer,)).features[layer]
    distances = np.linalg.norm(features[:, None] - features[None], axis=2)
    alike = parts["test"].labels[:, None] == parts["test"].labels[None]
    return float(distances[~alike].mean() / distances[alike & (distances > 0)].mean())


def test_images_of_a_label_come_to_lie_together(encoder: Path, files: list[LabelledFile], tmp_path: Path) -> None:
    seen = Losses()
    tuned = tune_encoder(encoder, files, tmp_path / "tuned", updates=40, dimensions=16, observer=seen)
    assert seen.losses[-1] < 0.8 * seen.losses[0]
    assert tuned.images == (sum(f.split == "train" for f in files), sum(f.split == "validation" for f in files))
    assert (tuned.head.values, default_layers(tmp_path / "tuned")) == (16, ("projected",))
    assert apart(tmp_path / "tuned", files) > 2
    assert read_encoder(tmp_path / "tuned") == tuned.encoder
    assert tuned.encoder.fingerprint != read_encoder(encoder).fingerprint

    tune_encoder(encoder, files, tmp_path / "again", updates=40, dimensions=16)
    name = tuned.encoder.weights
    before, one, other = (load_file(folder / name) for folder in (encoder, tmp_path / "tuned", tmp_path / "again"))
    assert all(np.array_equal(one[key], other[key]) for key in one)
    changed = [not np.array_equal(before[key], one[key]) for key in one if key.endswith(".weight")]
    assert any(changed)
    assert not changed[0]  # the first layers stay as they are


def test_a_folder_of_transformers_stays_one(files: list[LabelledFile], tmp_path: Path) -> None:
    declare_torchvision_operators()
    import_encoder(str(transformers_folder(tmp_path / "vit")), tmp_path / "mine", ImportOptions())
    tuned = tune_encoder(tmp_path / "mine", files, tmp_path / "tuned", updates=1, dimensions=8)
    assert describe_heads(tmp_path / "tuned")["projected"].model == tuned.encoder.fingerprint
    assert Embedder.load(tmp_path / "tuned").layers["projected"] == 8


def test_what_is_stopped_goes_on_as_if_it_had_not_been(
    encoder: Path, files: list[LabelledFile], tmp_path: Path
) -> None:
    tune = partial(tune_encoder, encoder, files, updates=5, dimensions=8)
    whole = tune(tmp_path / "whole")
    target = tmp_path / "tuned"
    with pytest.raises(CheckpointError, match="no tuning to resume"):
        tune(target, resume=True)
    with pytest.raises(Interrupted, match="after 2 of 5 updates"):
        tune(target, observer=Losses(last=2))
    assert not target.exists()
    with pytest.raises(SettingError, match="other images, settings"):
        tune(target, resume=True, dimensions=9)
    seen = Losses()
    resumed = tune(target, resume=True, observer=seen)
    assert len(seen.losses) == 3
    assert resumed.encoder.fingerprint == whole.encoder.fingerprint
    assert resumed.head.fingerprint == whole.head.fingerprint
    assert sorted(path.name for path in tmp_path.iterdir()) == ["tuned", "whole"]


def test_what_cannot_be_tuned_is_said(encoder: Path, files: list[LabelledFile], tmp_path: Path) -> None:
    with pytest.raises(SettingError, match="holds an ONNX file"):
        tune_encoder(find_model("lite0"), files, tmp_path / "tuned", updates=1, dimensions=8)
    without = [file for file in files if file.label == "eye" or file.split == "validation"]
    with pytest.raises(RepositoryError, match="no training image of class 'knee'"):
        tune_encoder(encoder, without, tmp_path / "tuned", updates=1, dimensions=8)
