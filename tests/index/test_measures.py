from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from index.measures import average_precision, mean_average_precision, precision_at, relevance


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
