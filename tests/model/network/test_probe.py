from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from model.errors import CheckpointError
from model.network.bundled import bundled_models
from model.network.embedder import Embedder
from model.network.heads import Head, HeadDescription, describe_heads, head_path, save_head
from model.network.metadata import Calibration, read_metadata
from model.network.probe import Probe, ProbeDescription, describe_probe, load_probe, probe_path, save_probe
from tests.support.models import NARROW, make_model

CLASSES = ("cat", "dog")


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return make_model(tmp_path / "mine.v2.safetensors", seed=0)


def make_probe(model: Path, *, layer: str = "fcl2", values: int = NARROW, threshold: float = -1.0) -> ProbeDescription:
    heads = describe_heads(model)
    description = ProbeDescription(
        layer,
        read_metadata(model).fingerprint,
        CLASSES,
        head=heads[layer].fingerprint if layer in heads else "",
        calibration=Calibration(2.0, threshold, 100),
    )
    weights = np.random.default_rng(0).standard_normal((values, 2)).astype(np.float32)
    probe = Probe(description, weights, np.array([0.5, -0.5], np.float32), np.ones((2, values), np.float16))
    return save_probe(probe_path(model), probe)


def test_a_probe_names_the_classes(model: Path) -> None:
    before = read_metadata(model).fingerprint
    assert describe_probe(model) is None
    stored = make_probe(model)
    assert (model.parent / "mine.v2.probe.safetensors").exists()
    assert describe_probe(model) == stored
    assert read_metadata(model).fingerprint == before
    assert describe_heads(model) == {}

    images = np.random.default_rng(1).integers(0, 256, (3, 224, 224), dtype=np.uint8)
    embedder = Embedder.load(model)
    assert embedder.classes == CLASSES
    found = embedder.embed(images, ("fcl1",))
    assert list(found.features) == ["fcl1"]
    probe = load_probe(model)
    logits = probe(embedder.embed(images, ("fcl2",)).features["fcl2"]) / 2.0
    expected = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    assert np.allclose(found.probabilities, expected, atol=1e-5)
    assert found.known.all()

    own = Embedder.load(model, probe=False)
    assert own.classes == read_metadata(model).classes
    assert own.embed(images).probabilities.shape == (3, len(own.classes))


def test_what_resembles_no_class_is_unknown_to_it(model: Path) -> None:
    make_probe(model, threshold=1.1)
    images = np.random.default_rng(1).integers(0, 256, (2, 224, 224), dtype=np.uint8)
    assert not Embedder.load(model).embed(images).known.any()


def test_a_probe_of_another_model_or_head_is_refused(model: Path) -> None:
    rng = np.random.default_rng(0)

    def head(seed: float) -> None:
        description = HeadDescription("projected", "fcl1", read_metadata(model).fingerprint, 8, normalised=True)
        mean, matrix = np.full(NARROW, seed, np.float32), rng.standard_normal((NARROW, 8)).astype(np.float32)
        save_head(head_path(model, "projected"), Head(description, mean, matrix))

    head(0.0)
    make_probe(model, layer="projected", values=8)
    assert Embedder.load(model).classes == CLASSES
    head(1.0)
    with pytest.raises(CheckpointError, match="was fitted on another head 'projected'"):
        Embedder.load(model)
    make_model(model, seed=1)
    with pytest.raises(CheckpointError, match="was fitted on another model"):
        describe_probe(model)


def test_a_damaged_probe_is_said(model: Path) -> None:
    make_probe(model)
    path = probe_path(model)
    path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(CheckpointError, match=r"mine\.v2\.probe\.safetensors is no probe, or is damaged"):
        describe_probe(model)


def test_what_lies_beside_a_bundled_model_is_no_model() -> None:
    assert all("probe" not in name and "projected" not in name for name in bundled_models())
