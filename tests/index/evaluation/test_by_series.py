from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from index.evaluation.by_series import BASELINE, POOLINGS, compare_by_series
from model.errors import RepositoryError
from model.network.embedder import Embedder
from model.training.repository import LabelledFile, read_manifest
from tests.support.volumes import make_body, write_series


@pytest.fixture(scope="module")
def embedder(model_path: Path) -> Embedder:
    return Embedder.load(model_path, runtime="openvino")


@pytest.fixture(scope="module")
def volumes(tmp_path_factory: pytest.TempPathFactory) -> list[LabelledFile]:
    """Two kinds of bodies, three persons each, two of them as files of slices, one as an enhanced object."""
    folder = tmp_path_factory.mktemp("volumes")
    files = []
    for kind in range(2):
        for person in range(3):
            name = f"{kind}-{person}"
            write_series(folder / name, make_body(kind, person), name, slices=10, side=32, enhanced=person == 2)
            files += [
                LabelledFile(path, f"kind{kind}", name, "test", series="one")
                for path in sorted((folder / name).iterdir())
            ]
    return files


def test_every_rule_finds_bodies_of_the_same_kind(volumes: list[LabelledFile], embedder: Embedder) -> None:
    found = compare_by_series([("untrained", embedder)], volumes, layers=("fcl1",), slices=5)
    assert (found.queries, found.series) == (6, 6)
    rows = {row.pooling: row for row in found.rows}
    assert tuple(rows) == POOLINGS
    for pooling in ("late", "ordered"):
        assert rows[pooling].precision[1] == 1.0
        assert rows[pooling].mean_average_precision == 1.0
        assert rows[pooling].recall == 1.0
    assert rows[BASELINE].gain is None
    gain = rows["ordered"].gain
    assert gain
    assert gain.low >= 0
    assert all(0 <= row.precision[rank] <= 1 for row in found.rows for rank in row.precision)


def test_short_series_are_found_and_not_asked(volumes: list[LabelledFile], embedder: Embedder) -> None:
    short = [file for file in volumes if not (file.group == "0-0" and int(file.path.stem[-3:]) > 3)]
    found = compare_by_series([("untrained", embedder)], short, layers=("fcl1",))
    assert (found.queries, found.series) == (5, 6)


def test_where_nothing_can_be_asked_it_is_said(tmp_path: Path, embedder: Embedder) -> None:
    rows = ["path,label,group,series,split"]
    for n in range(12):
        Image.fromarray(np.full((16, 16), 10 * n, np.uint8)).save(tmp_path / f"{n}.png")
        rows.append(f"{n}.png,{'ab'[n % 2]},g,s,test")
    (tmp_path / "manifest.csv").write_text("\n".join(rows))
    files = read_manifest(tmp_path / "manifest.csv")
    assert {file.series for file in files} == {"s"}
    with pytest.raises(RepositoryError, match="another of its label in another group"):
        compare_by_series([("untrained", embedder)], files)
