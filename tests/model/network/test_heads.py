from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from model.errors import CheckpointError, SettingError
from model.network.embedder import Embedder
from model.network.heads import (
    Head,
    HeadDescription,
    default_layers,
    describe_heads,
    head_path,
    load_head,
    model_layers,
    save_head,
)
from model.network.metadata import read_metadata
from tests.support.models import NARROW, make_model


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return make_model(tmp_path / "mine.v2.safetensors", seed=0)


def make_head(model: Path, *, name: str = "projected", values: int = 8, seed: int = 0) -> HeadDescription:
    rng = np.random.default_rng(seed)
    description = HeadDescription(name, "fcl2", read_metadata(model).fingerprint, values, normalised=True)
    mean, matrix = rng.random(NARROW, np.float32), rng.standard_normal((NARROW, values), np.float32)
    return save_head(head_path(model, name), Head(description, mean, matrix))


def test_a_head_is_one_more_layer(model: Path) -> None:
    before = read_metadata(model).fingerprint
    assert default_layers(model) == ("fcl1",)
    stored = make_head(model)
    assert (model.parent / "mine.v2.projected.head.safetensors").exists()
    assert describe_heads(model) == {"projected": stored}
    assert model_layers(model) == {"fcl1": NARROW, "fcl2": NARROW, "fcl3": NARROW, "projected": 8}
    assert default_layers(model) == ("projected",)
    assert read_metadata(model).fingerprint == before  # what was indexed with the model stays so

    images = np.random.default_rng(0).integers(0, 256, (3, 224, 224), dtype=np.uint8)
    embedder = Embedder.load(model)
    alone = embedder.embed(images, ("projected",)).features
    assert list(alone) == ["projected"]
    both = embedder.embed(images, ("fcl2", "projected")).features
    assert np.array_equal(both["projected"], alone["projected"])
    head = load_head(model, "projected")
    expected = (both["fcl2"] - head.mean) @ head.matrix
    assert np.allclose(alone["projected"], expected / np.linalg.norm(expected, axis=1, keepdims=True), atol=1e-6)
    assert alone["projected"].dtype == np.float32
    with pytest.raises(SettingError, match="choose among fcl1, fcl2, fcl3, projected"):
        embedder.embed(images, ("projekted",))


def test_heads_of_models_with_like_names_are_not_mixed_up(model: Path) -> None:
    other = make_model(model.with_name("mine.safetensors"), seed=0)
    make_head(model, name="projected")
    make_head(other, name="small", values=3)
    assert list(describe_heads(model)) == ["projected"]
    assert list(describe_heads(other)) == ["small"]


def test_a_fingerprint_is_of_everything_that_changes_what_a_head_gives(model: Path) -> None:
    one = make_head(model)
    assert make_head(model).fingerprint == one.fingerprint
    assert make_head(model, seed=1).fingerprint != one.fingerprint
    assert make_head(model, values=7).fingerprint != one.fingerprint


def test_what_is_no_head_is_said(model: Path) -> None:
    with pytest.raises(CheckpointError, match="make it with 'cbmir model project'"):
        load_head(model, "projected")
    path = head_path(model, "projected")
    path.write_bytes(b"no head")
    with pytest.raises(CheckpointError, match=r"mine\.v2\.projected\.head\.safetensors is no head, or is damaged"):
        describe_heads(model)
    path.write_bytes(model.read_bytes())
    with pytest.raises(CheckpointError, match="is no head"):
        Embedder.load(model)


def test_a_head_of_another_model_is_not_taken_for_this_ones(model: Path, tmp_path: Path) -> None:
    make_head(model)
    make_model(model, seed=1)  # trained anew in its place
    for look in (model_layers, default_layers, Embedder.load):
        with pytest.raises(CheckpointError, match=r"was fitted on another model .*: move it away, and fit it anew"):
            look(model)
