from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from model.errors import RepositoryError
from model.network.embedder import Embedder
from model.network.probe import probe_path, save_probe
from model.training import probing
from model.training.probing import fit_probe
from model.training.repository import LabelledFile, read_repository, split_repository
from tests.support import phantoms
from tests.support.models import make_model


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_model(tmp_path_factory.mktemp("probing") / "mine.safetensors", seed=0)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[LabelledFile]:
    folder = tmp_path_factory.mktemp("probed")
    phantoms.write_repository(folder, images=14, side=64)
    files = [file for file in read_repository(folder) if "broken" not in file.path.name]
    return split_repository(files, seed=0, validation=0.3)


def test_it_is_fitted_calibrated_and_measured(
    model: Path, files: list[LabelledFile], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(probing, "LEAST_IMAGES", 5)
    probe, measures, left_out = fit_probe(Embedder.load(model), files, layer="fcl1")
    assert left_out == []
    assert measures
    assert measures.accuracy > 0.9  # the phantoms differ so much that any network tells them apart
    described = probe.description
    assert described.measures
    assert (described.measures["accuracy"], described.classes) == (measures.accuracy, tuple(phantoms.ORGANS))
    assert described.calibration
    assert described.calibration.images == sum(file.split == "validation" for file in files)
    assert 0 < described.data["test_known"] <= 1
    save_probe(probe_path(model), probe)
    embedder = Embedder.load(model)
    noise = np.random.default_rng(0).integers(0, 256, (1, 224, 224), dtype=np.uint8)
    assert not embedder.embed(noise).known[0]


def test_two_classes_are_enough_and_one_is_not(model: Path, files: list[LabelledFile]) -> None:
    two = [file for file in files if file.label in {"eye", "knee"}]
    probe, measures, _ = fit_probe(Embedder.load(model, probe=False), two, layer="fcl2")
    assert (probe.weights.shape[1], probe.description.calibration) == (2, None)
    assert measures
    assert measures.accuracy > 0.8
    with pytest.raises(RepositoryError, match="two classes or more"):
        fit_probe(Embedder.load(model, probe=False), two[:3], layer="fcl1")
