"""What every engine promises.

Run over the embedded engine, over a stand-in for a server that stores in it behind a real gRPC connection, and over a
real server where there is one.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from uuid import uuid4

import numpy as np
import pytest

from index.engines.engine import RANK_FUSION, Index, Where
from index.schema import Location, Quantization
from model.errors import ModelMismatchError, NonFiniteFeaturesError, VectorIndexError
from tests.index.conftest import ORGANS, WIDTH, Engine, describe, make_points


@pytest.fixture
def index(engine: Engine) -> Iterator[Index]:
    """An index of 60 points in each engine."""
    with engine.create(describe()) as opened:
        opened.upsert(make_points(60))
        yield opened


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
        assert np.allclose([hit.score for hit in hits], np.sort(distances)[:10], rtol=1e-3)


def test_ranks_of_several_layers_are_fused(engine: Engine) -> None:
    layers = ("fcl1", "fcl2")
    points = make_points(60, layers=layers)
    with engine.create(describe(layers=layers)) as index:
        index.upsert(points)
        where = Where(must={"organ": ["brain", "knee"]}, exclude_ids=[points[0].id])
        vectors = {layer: index.vector(points[0].id, layer) for layer in layers}
        among = {point.id for point in points if point.payload.organ != "chest"} - {points[0].id}
        ranks = [index.rank(vectors[layer], layer, top=60, where=where, exact=True) for layer in layers]
        scores = {one: sum(1 / (RANK_FUSION + rank.index(one)) for rank in ranks) for one in among}
        for exact in (True, False):
            hits = index.fused(vectors, top=60, where=where, exact=exact)
            assert {hit.id for hit in hits} == among
            assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)
            for hit in hits:
                assert hit.score == pytest.approx(scores[hit.id], rel=0.02)  # ranks count from 0 or from 1
        assert [hit.id for hit in index.fused(vectors, top=3, where=where)] == [hit.id for hit in hits[:3]]


def test_examples_of_more_come_first_and_those_of_less_last(index: Index) -> None:
    points = make_points(60)
    matrix = np.stack([point.vectors["fcl1"] for point in points]).astype(np.float32)
    where = Where(must={"organ": ["brain", "knee"]})
    among = [n for n, point in enumerate(points) if point.payload.organ in {"brain", "knee"}]
    more, less = matrix[[among[0], among[5]]], matrix[[among[1], among[7]]]
    to_more, to_less = (np.linalg.norm(matrix[:, None] - ones, axis=2).min(axis=1) for ones in (more, less))
    for exact in (True, False):
        hits = index.recommended(list(more), list(less), "fcl1", top=60, where=where, exact=exact)
        assert {hit.id for hit in hits} == {points[n].id for n in among}
        assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)
        wanted = {points[n].id for n in among if to_more[n] < to_less[n]}
        assert {hit.id for hit in hits[: len(wanted)]} == wanted
        assert all((hit.score > 0) == (hit.id in wanted) for hit in hits)
        assert {hit.id for hit in hits[:2]} == {points[among[0]].id, points[among[5]].id}
    alone = index.recommended(list(more[:1]), [], "fcl1", top=5, where=where, exact=True)
    nearest = index.nearest(more[0], "fcl1", top=5, where=where, exact=True)
    assert [hit.id for hit in alone] == [hit.id for hit in nearest]


def test_a_layer_may_be_compared_by_dot_products(engine: Engine) -> None:
    points = make_points(60)
    matrix = np.stack([point.vectors["fcl1"] for point in points]).astype(np.float32)
    with engine.create(describe(dot_layers=("fcl1",))) as index:
        index.upsert(points)
        hits = index.nearest(matrix[3], "fcl1", top=5)
        products = matrix @ matrix[3]
        assert [hit.id for hit in hits] == [points[n].id for n in np.argsort(-products)[:5]]
        assert np.allclose([hit.score for hit in hits], np.sort(products)[::-1][:5], rtol=1e-2)
    with engine.open() as again:
        assert again.description.dot_layers == ("fcl1",)


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


def test_the_description_is_kept_and_only_roots_and_model_path_change(engine: Engine) -> None:
    description = describe(layers=("fcl1", "fcl3"), quantization="int8")
    with engine.create(description) as index:
        assert index.description == description
        index.update_description(roots=("/archive", "/more"), model_path="/elsewhere")
        index.upsert(make_points(3, layers=("fcl1", "fcl3")))
    with engine.open() as again:
        assert again.description == replace(description, roots=("/archive", "/more"), model_path="/elsewhere")
        assert again.count() == 3
    with pytest.raises(ModelMismatchError, match="was made by another model"):
        engine.create(describe(model_fingerprint="0" * 32))
    with pytest.raises(ModelMismatchError, match="has quantization int8, not turbo4"):
        engine.create(describe(layers=("fcl1", "fcl3")))


def test_ranking_is_nearest_without_payload(index: Index) -> None:
    query = index.vector(make_points(1)[0].id, "fcl1")
    where = Where(must={"organ": ["brain"]})
    hits = index.nearest(query, "fcl1", top=20, where=where, exact=True)
    assert index.rank(query, "fcl1", top=20, where=where, exact=True) == [hit.id for hit in hits]
    assert len(hits) == 20


def test_statistics_and_empty_calls(engine: Engine) -> None:
    with engine.create(describe()) as index:
        assert (index.statistics().points, index.count(), list(index.scroll())) == (0, 0, [])
        index.upsert([])
        index.delete([])
        assert index.retrieve([]) == {}
        index.upsert(make_points(7))
        index.flush()
        index.optimize()
        statistics = index.statistics()
        assert (statistics.points, statistics.vectors, statistics.complete) == (7, 7, True)


def test_scrolling_passes_over_every_page(engine: Engine) -> None:
    with engine.create(describe()) as index:
        points = make_points(1100)
        index.upsert(points)
        ids = [point for point, _ in index.scroll()]
        assert ids == sorted(point.id for point in points)


@pytest.mark.usefixtures("early_graphs")
@pytest.mark.parametrize("quantization", ["none", "int8", "turbo4"])
def test_the_graph_is_built_and_finds_what_exact_search_finds(engine: Engine, quantization: Quantization) -> None:
    if engine.name == "wire" and quantization != "turbo4":
        pytest.skip("what the stand-in does with turbo4 it does with others")
    # A server's graphs are as late as ever.
    count, width = (600, WIDTH) if engine.name == "edge" else (2700, 4 * WIDTH)
    description = describe(quantization=quantization, layers=("fcl1", "fcl3"), width=width)
    points = make_points(count, layers=("fcl1", "fcl3"), width=width)
    with engine.create(description) as index:
        for start in range(0, len(points), 300):
            index.upsert(points[start : start + 300])
        before = index.statistics()
        assert (before.points, before.vectors) == (count, 2 * count)
        index.optimize()
        after = index.statistics()
        assert after.complete
        assert after.indexed_vectors > count
        found = 0
        for point in points[:40]:
            for where in (Where(), Where(must={"organ": [str(point.payload.organ)]})):
                query = point.vectors["fcl3"]
                exact = index.nearest(query, "fcl3", top=10, where=where, exact=True)
                approximate = index.nearest(query, "fcl3", top=10, where=where)
                found += len({hit.id for hit in exact} & {hit.id for hit in approximate})
        assert found / 800 >= 0.97
    with engine.open() as again:
        assert again.statistics().points == count


def test_points_come_with_their_vectors_from_any_place_on(engine: Engine) -> None:
    with engine.create(describe(layers=("fcl1", "fcl2"))) as index:
        made = {point.id: point for point in make_points(600, layers=("fcl1", "fcl2"))}
        index.upsert(list(made.values()))
        found = list(index.points())
        assert [point.id for point in found] == sorted(made)
        for point in found[::50]:
            assert point.payload == made[point.id].payload
            assert all((vector == made[point.id].vectors[layer]).all() for layer, vector in point.vectors.items())
            assert set(point.vectors) == {"fcl1", "fcl2"}
        rest = list(index.points(found[299].id))
        assert [point.id for point in rest] == sorted(made)[300:]
        assert list(index.points(found[-1].id)) == []


def test_keywords_are_indexed_again_without_harm(engine: Engine) -> None:
    with engine.create(describe()) as index:
        index.upsert(make_points(30))
        before = index.facet("organ")
        index.index_keywords()
        assert index.facet("organ") == before
        assert index.count(Where({"view": ["axial"]})) == 0


def test_several_vectors_are_searched_for_at_once(engine: Engine) -> None:
    points = make_points(60)
    with engine.create(describe()) as index:
        index.upsert(points)
        vectors = [points[number % 60].vectors["fcl1"] for number in range(70)]  # more than one request takes
        where = Where(must={"organ": ["chest", "knee"]})
        together = index.nearest_each(vectors, "fcl1", top=4, where=where)
        assert together == [index.nearest(vector, "fcl1", top=4, where=where) for vector in vectors]
        assert [len(hits) for hits in together] == [4] * 70
        assert index.nearest_each([], "fcl1", top=4) == []
