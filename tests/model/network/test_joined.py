from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from model.errors import CheckpointError, SettingError
from model.images.frames import Frame, Header
from model.network.checkpoint import load_network
from model.network.embedder import Embedder
from model.network.heads import (
    Head,
    HeadDescription,
    default_layers,
    describe_heads,
    head_file,
    head_path,
    model_layers,
    save_head,
)
from model.network.joined import NAME, join_models, members_of
from model.network.metadata import read_metadata
from model.network.preparation import PAPER, JoinedPreparation, Preparation
from model.network.probe import describe_probe, load_probe, naming_member, probe_file, probe_path
from tests.model.network.test_heads import make_head
from tests.model.network.test_probe import CLASSES, make_probe
from tests.support.models import NARROW, make_model


@pytest.fixture
def pair(tmp_path: Path) -> Path:
    """Two networks; the second has a head and a probe."""
    one, two = make_model(tmp_path / "one.safetensors", seed=0), make_model(tmp_path / "two.safetensors", seed=1)
    make_head(two)
    make_probe(two)
    join_models(
        {"one": one, "two": two}, tmp_path / "pair", {"one": [], "two": [head_path(two, "projected"), probe_path(two)]}
    )
    return tmp_path / "pair"


def test_a_joined_model_has_the_layers_of_each(pair: Path, tmp_path: Path) -> None:
    layers = {f"{name}.{layer}": NARROW for name in ("one", "two") for layer in ("fcl1", "fcl2", "fcl3")}
    assert model_layers(pair) == layers | {"joined": 2 * NARROW, "two.projected": 8}
    assert default_layers(pair) == ("one.fcl1", "two.projected")
    assert list(describe_heads(pair)) == ["two.projected"]
    assert read_metadata(pair).fingerprint not in {
        read_metadata(tmp_path / f"{name}.safetensors").fingerprint for name in ("one", "two")
    }

    images = np.random.default_rng(0).integers(0, 256, (3, 2, 224, 224), dtype=np.uint8)
    found = Embedder.load(pair).embed(images.reshape(3, -1), ("two.projected", "one.fcl1"))
    assert list(found.features) == ["two.projected", "one.fcl1"]
    one, two = (Embedder.load(tmp_path / f"{name}.safetensors") for name in ("one", "two"))
    assert np.allclose(found.features["one.fcl1"], one.embed(images[:, 0]).features["fcl1"], atol=1e-5)
    assert np.allclose(
        found.features["two.projected"], two.embed(images[:, 1], ("projected",)).features["projected"], atol=1e-5
    )


def unit(features: NDArray[np.floating[Any]]) -> NDArray[np.float32]:
    return np.asarray(features / np.linalg.norm(features, axis=1, keepdims=True), np.float32)


def test_a_head_and_a_probe_behind_all_of_them(pair: Path) -> None:
    fingerprint = read_metadata(pair).fingerprint
    matrix = np.random.default_rng(2).standard_normal((2 * NARROW, 6), np.float32)
    mean = np.full(2 * NARROW, 0.01, np.float32)
    described = HeadDescription("projected", "joined", fingerprint, 6, normalised=True)
    stored = save_head(head_path(pair, "projected"), Head(described, mean, matrix))
    assert describe_heads(pair)["projected"] == stored
    assert default_layers(pair) == ("projected",)
    assert head_file(pair, "projected") == pair / "projected.head.safetensors"
    make_probe(pair, layer="projected", values=6)
    assert describe_probe(pair) == load_probe(pair).description
    assert probe_file(pair) == pair / "probe.safetensors"
    assert read_metadata(pair).fingerprint == fingerprint

    images = np.random.default_rng(0).integers(0, 256, (3, 2 * 224 * 224), dtype=np.uint8)
    embedder = Embedder.load(pair)
    assert embedder.classes == CLASSES
    found = embedder.embed(images, ("projected", "joined", "one.fcl1", "two.projected"))
    assert list(found.features) == ["projected", "joined", "one.fcl1", "two.projected"]
    joined = found.features["joined"]
    assert np.allclose(joined[:, :NARROW], unit(found.features["one.fcl1"]), atol=1e-6)
    assert np.allclose(found.features["projected"], unit((joined - mean) @ matrix), atol=1e-5)
    logits = load_probe(pair)(found.features["projected"]) / 2.0
    assert np.allclose(found.probabilities, np.exp(logits) / np.exp(logits).sum(1, keepdims=True), atol=1e-5)
    alone = embedder.embed(images, ("two.fcl2",))
    assert list(alone.features) == ["two.fcl2"]
    assert np.allclose(alone.probabilities, found.probabilities, atol=1e-6)
    own = Embedder.load(pair, probe=False)
    assert own.probe is None
    assert own.embed(images, ("projected",)).probabilities.shape == (3, len(own.classes))


def test_models_are_joined_where_they_lie(pair: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    where = {"one": "../pair/one.safetensors", "two": "../pair/two.safetensors"}
    (elsewhere / NAME).write_text(json.dumps({"format": 1, "members": where}))
    assert read_metadata(elsewhere).fingerprint == read_metadata(pair).fingerprint
    assert model_layers(elsewhere) == model_layers(pair)


def test_the_first_that_names_classes_names_them_for_all(pair: Path) -> None:
    own = read_metadata(pair / "one.safetensors").classes
    assert Embedder.load(pair).classes == read_metadata(pair).classes == own
    assert describe_probe(pair) is None
    make_probe(pair / "one.safetensors")
    assert Embedder.load(pair).classes == CLASSES
    assert Embedder.load(pair, probe=False).classes == own
    with pytest.raises(SettingError, match="no layer 'fcl1'"):
        Embedder.load(pair).embed(np.zeros((1, 2 * 224 * 224), np.uint8), ("fcl1",))


def test_what_adds_to_a_joined_model_is_looked_for_where_it_lies(pair: Path) -> None:
    assert head_file(pair, "two.projected") == head_path(pair / "two.safetensors", "projected")
    assert probe_file(pair) == probe_path(pair / "one.safetensors")
    with pytest.raises(CheckpointError, match="joins models"):
        load_network(pair)


def test_a_probe_that_came_later_does_not_take_the_classes_away(pair: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    members = members_of(pair)
    monkeypatch.setattr(
        "model.network.probe.read_metadata",
        lambda path: replace(read_metadata(path), classes=("a",) if path == members["one"] else ()),
    )
    reversed_members = dict(reversed(members.items()))
    assert naming_member(reversed_members) == "two"  # by its probe
    assert naming_member(reversed_members, probe=False) == "one"


def test_each_network_gets_frames_as_it_wants_them() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (90, 70), dtype=np.uint8)
    frame, colour = Frame(pixels, 1, 1, "", Header()), Preparation(32, 40, rule="crop", channels=3)
    joined = JoinedPreparation((PAPER, colour))
    row = joined(frame)
    assert row.shape == joined.shape == (224 * 224 + 32 * 32 * 3,)
    first, second = joined.split(row[None])
    assert (first[0] == PAPER(frame)).all()
    assert (second[0] == colour(frame)).all()


def test_what_cannot_be_joined_or_is_damaged_is_said(pair: Path, tmp_path: Path) -> None:
    one = tmp_path / "one.safetensors"
    with pytest.raises(SettingError, match="is there already"):
        join_models({"one": one}, pair, {"one": []})
    with pytest.raises(SettingError, match=r"'a\.b' cannot name a layer"):
        join_models({"a.b": one}, tmp_path / "new", {"a.b": []})
    with pytest.raises(CheckpointError, match="cannot be written"):
        join_models({"one": tmp_path / "nothing"}, tmp_path / "new", {"one": []})
    assert not list(tmp_path.glob("*new*"))
    (pair / "two.safetensors").rename(pair / "away")
    with pytest.raises(CheckpointError, match=r"two\.safetensors is gone"):
        members_of(pair)
    (pair / NAME).write_text("{}")
    with pytest.raises(CheckpointError, match=r"joined\.json is damaged"):
        read_metadata(pair)
