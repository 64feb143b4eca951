from __future__ import annotations

import random
import shutil
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from index.series_query import SeriesQuery, along, evenly, series_from_files
from model.errors import ImageError
from model.network.embedder import Embedder
from tests.support.volumes import make_body, write_series


@pytest.fixture(scope="module")
def embedder(model_path: Path) -> Embedder:
    return Embedder.load(model_path, runtime="openvino")


@pytest.fixture(scope="module")
def series(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A series of 20 slices, written from head to foot, with scouts and a broken file beside it."""
    folder = tmp_path_factory.mktemp("series")
    write_series(folder, make_body(0, 0), "one", slices=20, side=24, backwards=True)
    write_series(folder, make_body(0, 0), "one", slices=3, side=24, plane="coronal", suffix="-scout", localizer=True)
    (folder / "broken.dcm").write_bytes(b"\0" * 128 + b"DICM" + b"\1" * 50)
    return folder


def read(embedder: Embedder, *folders: Path, slices: int = 16) -> list[SeriesQuery]:
    files = [str(path) for folder in folders for path in folder.rglob("*") if path.is_file()]
    random.shuffle(files)
    return list(series_from_files(files, embedder, slices=slices))


def test_some_slices_are_taken_evenly_from_foot_to_head(embedder: Embedder, series: Path) -> None:
    left_out: list[ImageError] = []
    files = sorted(map(str, series.iterdir()))
    (query,) = series_from_files(files, embedder, slices=4, left_out=left_out.append)
    assert query.of == 20  # the scouts are another stack
    assert [Path(one.name).name for one in query.slices] == [f"one-{n:03}.dcm" for n in (17, 12, 7, 2)]
    assert query.places == pytest.approx([2 / 19, 7 / 19, 12 / 19, 17 / 19], abs=1e-4)
    assert len({one.id for one in query.slices}) == 4
    assert [Path(error.path).name for error in left_out] == ["broken.dcm"]


def test_copies_order_and_folders_of_the_files_change_nothing(embedder: Embedder, series: Path, tmp_path: Path) -> None:
    (expected,) = read(embedder, series)
    copied = Path(shutil.copytree(series, tmp_path / "copied"))
    for number, path in enumerate(sorted(copied.iterdir())):
        elsewhere = tmp_path / f"part{number % 3}"
        elsewhere.mkdir(exist_ok=True)
        path.rename(elsewhere / f"{random.randrange(10**6)}-{path.name}")
    parts = [tmp_path / f"part{number}" for number in range(3)]
    for folders in (parts, [*parts, series]):
        (found,) = read(embedder, *folders)
        assert [one.id for one in found.slices] == [one.id for one in expected.slices]
        assert (found.places, found.of, found.uid) == (expected.places, expected.of, expected.uid)


def test_a_study_is_as_many_queries_as_it_has_series(embedder: Embedder, tmp_path: Path) -> None:
    short = write_series(tmp_path / "a", make_body(0, 0), "short", slices=5, side=16)
    long = write_series(tmp_path / "a", make_body(0, 0), "long", slices=8, side=16, enhanced=True)
    assert [(query.uid, query.of) for query in read(embedder, tmp_path)] == [(long, 8), (short, 5)]


def test_pictures_without_headers_are_one_series_a_folder_in_natural_order(embedder: Embedder, tmp_path: Path) -> None:
    for number in range(1, 12):
        Image.fromarray(np.full((16, 16), 20 * number, np.uint8)).save(tmp_path / f"slice{number}.png")
    (query,) = read(embedder, tmp_path)
    assert query.uid is None
    assert query.name == str(tmp_path)
    assert [Path(one.name).name for one in query.slices] == [f"slice{n}.png" for n in range(1, 12)]
    assert query.places == pytest.approx([n / 10 for n in range(11)])


def test_scouts_are_taken_where_there_is_nothing_else(embedder: Embedder, tmp_path: Path) -> None:
    write_series(tmp_path, make_body(0, 0), "scouts", slices=3, side=16, localizer=True)
    (query,) = read(embedder, tmp_path)
    assert query.of == 3


@given(count=st.integers(1, 500), most=st.integers(1, 40))
def test_evenly_and_never_twice(count: int, most: int) -> None:
    chosen = evenly(count, most)
    assert len(chosen) == len(set(chosen)) == min(count, most)
    assert chosen == sorted(chosen)
    assert 0 <= chosen[0] <= chosen[-1] < count
    gaps = [b - a for a, b in pairwise(chosen)]
    assert max(gaps, default=0) - min(gaps, default=0) <= 1


def test_places_by_number_where_millimetres_are_not_known() -> None:
    assert along([5.0, 10.0, 25.0]) == [0.0, 0.25, 1.0]
    assert along([None, 10.0, 25.0]) == [0.0, 0.5, 1.0]
    assert along([3.0, 3.0]) == [0.0, 1.0]
    assert along([7.0]) == [0.0]
