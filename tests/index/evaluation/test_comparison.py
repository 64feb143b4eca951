from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from index.evaluation.comparison import compare_models, over_groups
from model.errors import RepositoryError
from model.network.embedder import Embedder
from model.network.joined import join_models
from model.training.repository import LabelledFile, Split
from tests.support import phantoms
from tests.support.models import make_model


def write(folder: Path, organ: str, number: int, group: str, split: Split) -> LabelledFile:
    path = folder / f"{organ}{number}.dcm"
    phantoms.dicom([phantoms.draw(organ, number, 48)], organ, number).save_as(path, enforce_file_format=True)
    return LabelledFile(path, organ, group, split)


def test_models_are_compared_by_what_their_layers_retrieve(tmp_path: Path) -> None:
    files = [
        write(tmp_path, organ, number, f"{organ}{number // 2}", "test" if number < 2 else "train")
        for organ in ("brain", "knee", "eye")
        for number in range(6)
    ]
    models = [
        (name, Embedder.load(make_model(tmp_path / name, seed=seed))) for seed, name in enumerate(("one", "other"))
    ]
    found = compare_models(models, files, layers=("fcl1", "fcl3"))
    assert (found.queries, found.images) == (6, 18)
    assert [(row.model, row.layer) for row in found.rows] == [
        ("one", "fcl1"),
        ("one", "fcl3"),
        ("other", "fcl1"),
        ("other", "fcl3"),
        ("one fcl3 + other fcl3", "ranks fused"),
    ]
    for row in found.rows:
        # Phantoms of an organ are alike, whatever network looks at them.
        assert row.precision[1] == 1.0
        assert 0.5 < row.precision[5] <= 0.8  # of a query's organ four images are in other groups
        assert 0.9 < row.mean_average_precision <= 1.0
        assert row.interval
        assert (row.interval.low, row.interval.high) == (1.0, 1.0)


def test_of_a_joined_model_the_ranks_are_fused(tmp_path: Path) -> None:
    files = [
        write(tmp_path, organ, number, f"{organ}{number}", "test" if number < 2 else "train")
        for organ in ("brain", "knee")
        for number in range(4)
    ]
    one, two = (make_model(tmp_path / f"{name}.safetensors", seed=seed) for seed, name in enumerate(("one", "two")))
    join_models({"one": one, "two": two}, tmp_path / "pair", {"one": [], "two": []})
    found = compare_models([("pair", Embedder.load(tmp_path / "pair"))], files, layers=("one.fcl1", "two.fcl2"))
    shown = [(row.model, row.layer) for row in found.rows]
    assert shown == [("pair", "one.fcl1"), ("pair", "two.fcl2"), ("pair one.fcl1 + pair two.fcl2", "ranks fused")]
    assert found.rows[2].precision[1] == 1.0


def test_where_nothing_can_be_found_it_is_said(tmp_path: Path) -> None:
    files = [write(tmp_path, organ, 0, organ, "test") for organ in ("brain", "knee")]
    model = [("one", Embedder.load(make_model(tmp_path / "one", seed=0)))]
    with pytest.raises(RepositoryError, match="in another group"):
        compare_models(model, files)
    for file in files:
        file.path.write_bytes(b"broken")
    with pytest.raises(RepositoryError, match="no image of the test part could be read"):
        compare_models(model, files)


def test_intervals_are_of_groups_and_not_of_images() -> None:
    right = np.repeat([1.0, 0.0], 50)
    by_group = over_groups(right, np.repeat([0, 1], 50))
    by_image = over_groups(right, np.arange(100))
    assert by_group
    assert by_image
    assert (by_group.low, by_group.high) == (0.0, 1.0)
    assert 0.35 < by_image.low < by_image.high < 0.65
    assert over_groups(np.ones(3), np.zeros(3, np.int64)) is None
