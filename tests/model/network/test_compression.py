from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from model.network.compression import compress, expand, quantise
from model.training.compress import compress_checkpoint


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


@pytest.mark.parametrize("rank", [0, 5000])
def test_a_rank_that_makes_no_sense_is_refused(rank: int, model_path: Path, tmp_path: Path) -> None:
    from model.errors import SettingError

    with pytest.raises(SettingError, match="rank"):
        compress_checkpoint(model_path, [], tmp_path / "small.safetensors", rank=rank)
