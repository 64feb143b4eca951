from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from model.errors import CheckpointError, SettingError
from model.network.checkpoint import load_network, save_checkpoint
from model.network.embedder import Embedder
from model.network.ranges import activation_ranges
from tests.support import phantoms
from tests.support.models import NARROW, prepared


def test_embeddings_have_the_documented_shapes(model_path: Path) -> None:
    embedder = Embedder.load(model_path)
    images = np.random.default_rng(0).integers(0, 256, (3, 224, 224), dtype=np.uint8)
    embeddings = embedder.embed(images, ("fcl1", "fcl2", "fcl3"))
    assert embeddings.probabilities.shape == (3, 6)
    assert np.allclose(embeddings.probabilities.sum(axis=1), 1, atol=1e-5)
    for features in embeddings.features.values():
        assert features.shape == (3, NARROW)
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


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    return np.stack([prepared((255 * phantoms.draw(organ, 1, 96)).astype(np.uint8)) for organ in phantoms.ORGANS])


def test_openvino_computes_what_torch_does(model_path: Path, images: np.ndarray) -> None:
    layers = ("fcl1", "fcl2", "fcl3")
    torch, openvino = (Embedder.load(model_path, runtime=name).embed(images, layers) for name in ("torch", "openvino"))
    assert np.allclose(openvino.probabilities, torch.probabilities, atol=1e-5)
    for layer, features in torch.features.items():
        assert np.allclose(openvino.features[layer], features, atol=1e-5 * features.max()), layer


def test_integers_are_close_enough_to_be_found(model_path: Path, images: np.ndarray, tmp_path: Path) -> None:
    network, metadata = load_network(model_path)
    with pytest.raises(CheckpointError, match="how large its activations grow"):
        Embedder.load(model_path, runtime="openvino-int8")
    wide = np.stack([np.pad(image, 16, mode="edge") for image in images])
    path = tmp_path / "with-ranges.safetensors"
    save_checkpoint(path, network.state_dict(), replace(metadata, ranges=activation_ranges(network, wide)))
    exact = Embedder.load(path).embed(images).features["fcl1"]
    rough = Embedder.load(path, runtime="openvino-int8").embed(images).features["fcl1"]
    assert np.abs(rough - exact).max() < 0.05 * exact.max()
    distances = np.linalg.norm(rough[:, None] - exact[None], axis=2)
    assert (distances.argmin(axis=1) == np.arange(len(images))).all()


def test_openvino_imports_no_torch_and_knows_no_gpu(model_path: Path) -> None:
    with pytest.raises(SettingError, match="processors only"):
        Embedder.load(model_path, runtime="openvino", device="cuda")
    with pytest.raises(SettingError, match="no runtime 'onnx'"):
        Embedder.load(model_path, runtime="onnx")
    script = (
        "import sys\nfrom model.network.embedder import Embedder\n"
        f"Embedder.load({str(model_path)!r}, runtime='openvino')\nprint('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True)
    assert done.stdout.split()[-1] == "False"
