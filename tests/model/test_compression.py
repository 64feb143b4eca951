from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from model.checkpoint import load_network, read_metadata
from model.compression import compress, expand, quantise
from model.embedder import Embedder
from model.factorisation import compress_checkpoint
from model.preprocessing import to_input
from model.reading import read_frames
from model.repository import read_repository, split_repository
from tests import phantoms


@given(arrays(np.float32, (3, 4, 2), elements=st.floats(-1e6, 1e6, width=32)))
def test_an_integer_is_half_a_step_off_at_most(weights: np.ndarray) -> None:
    integers, scale = quantise(weights)
    restored = integers * scale[:, None, None]
    assert (np.abs(restored - weights) <= scale[:, None, None] * 0.501).all()
    assert not restored[weights == 0].any()


def test_what_is_stored_comes_back() -> None:
    rng = np.random.default_rng(0)
    left, right = rng.standard_normal((8, 3), np.float32), rng.standard_normal((3, 20), np.float32)
    weights = {
        "fcl1.weight": left @ right,
        "fcl1.bias": rng.standard_normal(8, np.float32),
        "cvl1.weight": rng.standard_normal((4, 1, 3, 3), np.float32),
    }
    stored = compress(weights, {"fcl1.weight": (left, right)})
    assert {array.dtype.name for array in stored.values()} == {"int8", "float32"}
    expanded = expand(stored)
    assert expanded.keys() == weights.keys()
    for name, values in weights.items():
        assert np.abs(expanded[name] - values).max() < 0.05, name
    assert (expanded["fcl1.bias"] == weights["fcl1.bias"]).all()


def test_a_compressed_checkpoint_is_used_like_any_other(model_path: Path, tmp_path: Path) -> None:
    phantoms.write_repository(tmp_path / "repository", images=4, side=64)
    files = split_repository(read_repository(tmp_path / "repository"), seed=0)
    output = tmp_path / "small.safetensors"
    # The outputs of fewer than 20 images, in three views each, lie in fewer than 60 dimensions: nothing is cut off.
    result = compress_checkpoint(model_path, files, output, rank=60)
    assert len(result.left_out) == 1  # one of the phantoms is broken
    assert result.measures
    assert output.stat().st_size < 8e6 < 2e8 < model_path.stat().st_size
    assert read_metadata(output).rank == 60
    assert read_metadata(output).fingerprint == result.metadata.fingerprint != read_metadata(model_path).fingerprint
    assert {name: tensor.shape for name, tensor in load_network(output)[0].state_dict().items()} == {
        name: tensor.shape for name, tensor in load_network(model_path)[0].state_dict().items()
    }
    trained_on = next(file.path for file in files if file.split == "train" and file.label == "eye")
    image = to_input(next(read_frames(trained_on)).pixels)[None]
    dense, small = (Embedder.load(path).embed(image, ("fcl1", "fcl3")) for path in (model_path, output))
    for layer, expected in dense.features.items():
        assert np.abs(small.features[layer] - expected).max() < 0.03 * expected.max(), layer
    for runtime, tolerance in (("openvino", 1e-4), ("openvino-int8", 0.05)):
        features = Embedder.load(output, runtime=runtime).embed(image).features["fcl1"]
        assert np.abs(features - small.features["fcl1"]).max() < tolerance * features.max(), runtime


@pytest.mark.parametrize("rank", [0, 5000])
def test_a_rank_that_makes_no_sense_is_refused(rank: int, model_path: Path, tmp_path: Path) -> None:
    from model.errors import SettingError

    with pytest.raises(SettingError, match="rank"):
        compress_checkpoint(model_path, [], tmp_path / "small.safetensors", rank=rank)
