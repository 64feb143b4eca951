from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from index.evaluation.measures import (
    RECALL_LEVELS,
    average_precision,
    curves,
    mean_average_precision,
    mean_reciprocal_rank,
    precision_at,
    recall_at,
    relevance,
)


@given(st.lists(st.booleans(), min_size=1, max_size=40), st.integers(0, 5))
def test_average_precision_is_its_definition(answer: list[bool], missed: int) -> None:
    relevant = sum(answer) + missed
    expected = sum(sum(answer[: rank + 1]) / (rank + 1) for rank, hit in enumerate(answer) if hit)
    assert average_precision(np.array(answer), relevant) == pytest.approx(expected / relevant if relevant else 0.0)


def test_means_over_queries() -> None:
    answers = [np.array([True, False]), np.array([False, True]), np.array([False])]
    assert mean_average_precision(answers, [1, 1, 0]) == pytest.approx(0.75)
    assert precision_at(answers, 1) == pytest.approx(1 / 3)
    assert precision_at([np.array([True])], 5) == pytest.approx(0.2)
    assert mean_average_precision([], []) == 0.0
    assert relevance(["a", "b", None], "a").tolist() == [True, False, False]


@given(st.lists(st.tuples(st.lists(st.booleans(), max_size=30), st.integers(0, 4)), max_size=6))
def test_curves_are_their_definitions(queries: list[tuple[list[bool], int]]) -> None:
    answers = [np.array(answer, dtype=bool) for answer, _ in queries]
    relevant = [sum(answer) + missed for answer, missed in queries]
    found = curves(answers, relevant, 30)
    counted = [(answer, total) for (answer, _), total in zip(queries, relevant, strict=True) if total]
    for rank in range(1, 31):
        precisions = [sum(answer[:rank]) / rank for answer, _ in counted]
        recalls = [sum(answer[:rank]) / total for answer, total in counted]
        assert found.precision[rank - 1] == pytest.approx(np.mean(precisions) if counted else 0)
        assert found.recall[rank - 1] == pytest.approx(np.mean(recalls) if counted else 0)
    for level in range(0, RECALL_LEVELS, 10):
        best = [
            max(
                (sum(a[:r]) / r for r in range(1, len(a) + 1) if sum(a[:r]) * 100 >= level * total),
                default=0.0,
            )
            for a, total in counted
        ]
        assert found.interpolated[level] == pytest.approx(np.mean(best) if counted else 0)


def test_recall_and_reciprocal_rank() -> None:
    answers = [np.array([False, True, True]), np.array([True]), np.array([], dtype=bool), np.array([False])]
    assert recall_at(answers, [4, 1, 2, 0], 2) == pytest.approx((1 / 4 + 1 + 0) / 3)
    assert mean_reciprocal_rank(answers) == pytest.approx((1 / 2 + 1) / 4)
    assert recall_at([], [], 1) == mean_reciprocal_rank([]) == 0
