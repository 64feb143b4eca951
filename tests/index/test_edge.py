from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from uuid import uuid4

import numpy as np
import pytest

from index.interface import Index, Where
from index.opening import create_index, open_index
from index.schema import Location, Quantization
from model.errors import DiskFullError, NonFiniteFeaturesError, VectorIndexError
from tests.index.conftest import ORGANS, describe, make_points


def test_points_come_back_as_they_were_stored(index: Index) -> None:
    points = make_points(60)
    stored = index.retrieve([point.id for point in points])
    assert stored == {point.id: point.payload for point in points}
    assert (index.vector(points[7].id, "fcl1") == points[7].vectors["fcl1"]).all()
    assert index.retrieve([uuid4()]) == {}
    with pytest.raises(VectorIndexError, match="holds no point"):
        index.vector(uuid4(), "fcl1")


def test_neighbours_are_those_of_numpy(index: Index) -> None:
    points = make_points(60)
    matrix = np.stack([point.vectors["fcl1"] for point in points]).astype(np.float32)
    query = matrix[3] + 0.1
    distances = np.linalg.norm(matrix - query, axis=1)
    for exact in (True, False):
        hits = index.nearest(query, "fcl1", top=10, exact=exact)
        assert [hit.id for hit in hits] == [points[n].id for n in np.argsort(distances)[:10]]
        assert np.allclose([hit.distance for hit in hits], np.sort(distances)[:10], rtol=1e-3)


def test_filters(index: Index) -> None:
    query = index.vector(make_points(1)[0].id, "fcl1")
    brain = index.nearest(query, "fcl1", top=60, where=Where(must={"organ": ["brain"], "modality": ["MR"]}))
    assert {(hit.payload.organ, hit.payload.header.modality) for hit in brain} == {("brain", "MR")}
    assert len(brain) == 10
    both = Where(must={"organ": ["brain", "knee"]}, must_not={"modality": ["MR"]}, exclude_ids=[brain[0].id])
    assert index.count(both) == 20
    assert index.count(Where(exclude_ids=[brain[0].id])) == 59
    assert len(list(index.scroll(both))) == 20


def test_upsert_replaces_and_delete_removes(index: Index) -> None:
    point = make_points(1)[0]
    moved = replace(point.payload, locations=(Location(0, "elsewhere"),))
    index.upsert([replace(point, payload=moved)])
    assert index.count() == 60
    assert index.retrieve([point.id])[point.id] == moved
    index.set_payload(point.id, point.payload)
    assert index.retrieve([point.id])[point.id] == point.payload
    assert (index.vector(point.id, "fcl1") == point.vectors["fcl1"]).all()
    index.delete([point.id, uuid4()])
    assert index.count() == 59


def test_facets_count_every_value(index: Index) -> None:
    assert index.facet("organ") == dict.fromkeys(ORGANS, 20)
    assert index.facet("body_part_examined") == {}


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_vector_that_is_not_finite_stores_nothing_of_its_batch(index: Index, bad: float) -> None:
    points = make_points(3, seed=1)
    vector = points[1].vectors["fcl1"].copy()
    vector[17] = bad
    with pytest.raises(NonFiniteFeaturesError, match=r"chest/1\.dcm, frame 1"):
        index.upsert([points[0], replace(points[1], vectors={"fcl1": vector}), points[2]])
    assert index.count() == 60


def test_a_wrong_dimension_is_one_clear_error(index: Index) -> None:
    point = replace(make_points(1, seed=1)[0], vectors={"fcl1": np.zeros(7, np.float16)})
    with pytest.raises(VectorIndexError, match="refused"):
        index.upsert([point])


def test_a_full_disk_is_met_before_it_is_full(index: Index, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = type("Usage", (), {"free": 100 * 2**20})
    monkeypatch.setattr("shutil.disk_usage", lambda _: usage)
    with pytest.raises(DiskFullError, match="only 100 MB are free"):
        index.upsert(make_points(3, seed=1))
    with pytest.raises(DiskFullError, match="only 100 MB are free"):
        index.flush()
    with pytest.raises(DiskFullError, match="only 100 MB are free"):
        index.optimize()
    monkeypatch.undo()
    assert index.count() == 60


@pytest.mark.parametrize("quantization", ["none", "int8", "turbo4"])
def test_the_graph_is_built_and_finds_what_exact_search_finds(tmp_path: Path, quantization: Quantization) -> None:
    description = describe(quantization=quantization, layers=("fcl1", "fcl3"))
    points = make_points(2700, layers=("fcl1", "fcl3"))
    with create_index(tmp_path / "index", description, purpose="test") as index:
        for start in range(0, len(points), 300):
            index.upsert(points[start : start + 300])
        before = index.statistics()
        assert (before.points, before.vectors, before.complete) == (2700, 5400, False)
        index.optimize()
        after = index.statistics()
        assert (after.indexed_vectors, after.complete) == (5400, True)
        assert after.bytes_on_disk > 2700 * 2 * 8192
        found = 0
        for point in points[:40]:
            for where in (Where(), Where(must={"organ": [point.payload.organ]})):
                query = point.vectors["fcl3"]
                exact = index.nearest(query, "fcl3", top=10, where=where, exact=True)
                approximate = index.nearest(query, "fcl3", top=10, where=where)
                found += len({hit.id for hit in exact} & {hit.id for hit in approximate})
        assert found / 800 >= 0.97
    with open_index(tmp_path / "index", purpose="test") as again:
        assert again.statistics().points == 2700


def test_a_killed_writer_loses_nothing_that_it_flushed(tmp_path: Path) -> None:
    script = (
        "import os, signal\n"
        "from pathlib import Path\n"
        "from index.opening import create_index\n"
        "from tests.index.conftest import describe, make_points\n"
        f"index = create_index({str(tmp_path / 'index')!r}, describe(), purpose='doomed')\n"
        "index.upsert(make_points(50)); index.flush(); index.upsert(make_points(50, seed=1))\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    assert subprocess.run([sys.executable, "-c", script], check=False, cwd=Path(__file__).parents[2]).returncode == -9
    assert json.loads((tmp_path / "index" / "holder.json").read_text())["purpose"] == "doomed"
    with open_index(tmp_path / "index", purpose="test", wait=0) as index:
        assert index.count() >= 50
        assert set(index.retrieve([p.id for p in make_points(50)])) == {p.id for p in make_points(50)}
