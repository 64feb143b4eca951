from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from model.embedder import Embedder
from model.errors import SettingError


def test_embeddings_have_the_documented_shapes(model_path: Path) -> None:
    embedder = Embedder.load(model_path)
    images = np.random.default_rng(0).integers(0, 256, (3, 224, 224), dtype=np.uint8)
    embeddings = embedder.embed(images, ("fcl1", "fcl2", "fcl3"))
    assert embeddings.probabilities.shape == (3, 6)
    assert np.allclose(embeddings.probabilities.sum(axis=1), 1, atol=1e-5)
    for features in embeddings.features.values():
        assert features.shape == (3, 4096)
        assert features.dtype == np.float32
        assert features.min() >= 0


def test_an_image_alone_and_in_a_batch_embeds_alike(model_path: Path) -> None:
    embedder = Embedder.load(model_path)
    images = np.random.default_rng(0).integers(0, 256, (5, 224, 224), dtype=np.uint8)
    together = embedder.embed(images).features["fcl1"]
    alone = embedder.embed(images[2:3]).features["fcl1"]
    assert np.allclose(together[2], alone[0], rtol=1e-3, atol=1e-3)


def test_unknown_layers_and_devices_are_refused(model_path: Path) -> None:
    with pytest.raises(SettingError, match="no layer 'fcl9'"):
        Embedder.load(model_path).embed(np.zeros((1, 224, 224), np.uint8), ("fcl9",))
    with pytest.raises(SettingError, match="device 'cuda:77'"):
        Embedder.load(model_path, device="cuda:77")
