"""Retrieval measures on ranked answers (paper section 4.3), as functions on arrays."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Relevance = NDArray[np.bool_]
"""One answer, nearest first: whether each hit is relevant, that is, of the query's true label."""


def average_precision(relevance: Relevance, relevant: int) -> float:
    """Average precision of one answer, 0…1.

    It is the mean, over all ``relevant`` images of the database, of the precision at the rank of each; an image that
    the answer does not contain counts 0. So an answer that was restricted to a wrongly predicted class scores 0. The
    paper does not define its measure.

    Args:
        relevance: the answer, ``(n,)``.
        relevant: number of relevant images in the whole database.
    """
    from sklearn.metrics import average_precision_score

    if relevant == 0 or not relevance.any():
        return 0.0
    found = int(relevance.sum())
    return float(average_precision_score(relevance, -np.arange(len(relevance)))) * found / relevant


def mean_average_precision(answers: Sequence[Relevance], relevant: Sequence[int]) -> float:
    """Mean of :func:`average_precision` over the queries that have a relevant image in the database."""
    pairs = [(answer, count) for answer, count in zip(answers, relevant, strict=True) if count]
    return float(np.mean([average_precision(answer, count) for answer, count in pairs])) if pairs else 0.0


def precision_at(answers: Sequence[Relevance], rank: int) -> float:
    """Mean share of relevant hits among the first ``rank``; a shorter answer's missing hits count as wrong."""
    return float(np.mean([answer[:rank].sum() / rank for answer in answers])) if len(answers) else 0.0


def relevance(labels: Sequence[Any], label: Any) -> Relevance:
    """Which of the hits' labels are the query's."""
    return np.array([other == label for other in labels], dtype=bool)
