from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from index.evaluation.ranking import database, rank_database
from index.evaluation.retrieval import evaluate_retrieval
from model.training.evaluation import Predictions

CLASSES = ("brain", "chest", "knee")


def make(count: int, seed: int, spread: float = 1.5) -> Predictions:
    rng = np.random.default_rng(seed)
    centres = np.random.default_rng(5).random((3, 4096))
    labels = rng.integers(0, 3, count)
    predicted = np.where(rng.random(count) < 0.2, (labels + 1) % 3, labels)
    features = {
        layer: np.maximum(centres[labels] + rng.normal(0, spread, (count, 4096)), 0).astype(np.float32)
        for layer in ("fcl1", "fcl2")
    }
    probabilities = np.full((count, 3), 0.25, np.float32)
    probabilities[np.arange(count), predicted] = 0.5
    return Predictions(labels, probabilities, features, rng.random(count) > 0.1)


def by_numpy(
    queries: Predictions, images: Predictions, layer: str, within: bool, left_out: list[set[int]]
) -> list[list[int]]:
    """Rankings by distance to what the index stores: float16."""
    stored = images.features[layer].astype(np.float16).astype(np.float64)
    rankings = []
    for number, query in enumerate(queries.features[layer].astype(np.float64)):
        order = np.argsort(np.linalg.norm(stored - query, axis=1), kind="stable").tolist()
        same = ((images.predicted == queries.predicted[number]) & images.known) | ~queries.known[number]
        rankings.append([n for n in order if n not in left_out[number] and (same[n] or not within)])
    return rankings


def test_a_layer_of_dot_products_is_ranked_by_them() -> None:
    images, queries = make(120, 0), make(6, 1)
    with database(images, CLASSES, ("fcl1",), dot_layers=("fcl1",)) as index:
        found = rank_database(index, queries, "fcl1", size=120, with_class_prediction=False, exact=True)
    stored = images.features["fcl1"].astype(np.float16).astype(np.float64)
    for row, query in zip(found, queries.features["fcl1"], strict=True):
        products = stored @ query
        assert products[row] == pytest.approx(np.sort(products)[::-1], rel=1e-3)


def average_precision(ranking: list[int], images: Predictions, label: int, left_out: set[int]) -> float:
    """Average precision by its definition."""
    relevant = [n for n in range(len(images.labels)) if images.labels[n] == label and n not in left_out]
    hits = [rank for rank, n in enumerate(ranking, 1) if images.labels[n] == label]
    return sum(place / rank for place, rank in enumerate(hits, 1)) / len(relevant)


@pytest.mark.parametrize("within", [False, True])
def test_the_index_ranks_as_numpy_does(within: bool) -> None:
    images, queries = make(240, 0), make(12, 1)
    left_out: list[set[int]] = [{n, n + 20} for n in range(12)]
    with database(images, CLASSES, ("fcl1", "fcl2")) as index:
        for layer in ("fcl1", "fcl2"):
            found = rank_database(
                index, queries, layer, size=240, with_class_prediction=within, exact=True, left_out=left_out
            )
            expected = by_numpy(queries, images, layer, within, left_out)
            stored = images.features[layer].astype(np.float16).astype(np.float64)
            for row, ranking, query in zip(found, expected, queries.features[layer], strict=True):
                assert set(row[row >= 0]) == set(ranking)
                # Nearly equal distances may change places: the engine computes in single precision.
                distances = np.linalg.norm(stored - query, axis=1)
                assert distances[row[row >= 0]] == pytest.approx(distances[ranking], rel=1e-4)


def test_measures_of_every_way_to_search_are_those_of_the_rankings() -> None:
    images, queries = make(300, 2), make(20, 3)
    left_out: list[set[int]] = [{n} for n in range(20)]
    results = list(evaluate_retrieval(queries, images, CLASSES, "leave group out", ("fcl1", "fcl2"), left_out=left_out))
    settings = [(r.setting.layer, r.setting.with_class_prediction, r.setting.exact) for r in results]
    assert len(set(settings)) == len(settings) == 8
    for result in results:
        if not result.setting.exact:
            continue
        rankings = by_numpy(queries, images, result.setting.layer, result.setting.with_class_prediction, left_out)
        expected = [
            average_precision(ranking, images, int(label), out)
            for ranking, label, out in zip(rankings, queries.labels, left_out, strict=True)
        ]
        assert result.average_precisions == pytest.approx(expected, abs=1e-3)
        assert result.mean_average_precision == pytest.approx(np.mean(expected), abs=1e-4)
        assert result.queries == 20
        assert result.interval
        assert result.interval.low <= result.mean_average_precision <= result.interval.high
        first = [images.labels[ranking[0]] == label for ranking, label in zip(rankings, queries.labels, strict=True)]
        assert result.precision[1] == pytest.approx(np.mean(first))


@pytest.mark.usefixtures("early_graphs")
def test_an_approximate_search_finds_nearly_the_same() -> None:
    images, queries = make(800, 4), make(10, 5)
    exact, approximate = (
        next(iter(evaluate_retrieval(queries, images, CLASSES, "training images", ("fcl1",), searches=(choice,))))
        for choice in (True, False)
    )
    # A graph does not lead to every point: the far end of an approximate ranking lacks some.
    missed = (approximate.rankings < 0).mean()
    assert 0 <= missed < 0.05
    assert approximate.mean_average_precision == pytest.approx(exact.mean_average_precision, abs=0.05)
    same = [len(set(a[:10]) & set(b[:10])) for a, b in zip(exact.rankings, approximate.rankings, strict=True)]
    assert np.mean(same) > 9


def test_a_query_without_a_relevant_image_does_not_count() -> None:
    images, queries = make(50, 6), make(4, 7)
    images = replace(images, labels=np.zeros_like(images.labels))
    queries = replace(queries, labels=np.array([0, 1, 2, 0]))
    result = next(iter(evaluate_retrieval(queries, images, CLASSES, "training images", ("fcl1",))))
    assert result.queries == 2
    assert result.mean_average_precision == 1.0
    queries = replace(queries, labels=np.array([1, 1, 2, 2]))
    empty = next(iter(evaluate_retrieval(queries, images, CLASSES, "training images", ("fcl1",))))
    assert (empty.queries, empty.mean_average_precision, empty.interval) == (0, 0.0, None)
    assert not np.isnan(empty.curves.precision).any()
