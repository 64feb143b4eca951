"""Retrieval measures on ranked answers (paper section 4.3), as functions on arrays."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score

Relevance = NDArray[np.bool_]
"""One answer, nearest first: whether each hit is relevant, that is, of the query's true label."""

RECALL_LEVELS = 101
"""Levels 0, 0.01, … 1 at which precision is interpolated."""

_CHUNK = 256


@dataclass(frozen=True, slots=True)
class Curves:
    """Means over the queries.

    Attributes:
        precision: at rank 1, 2, …; an answer's missing hits count as wrong.
        recall: at rank 1, 2, …, of the relevant images in the whole database.
        interpolated: the greatest precision at any recall of at least 0, 0.01, … 1; 0 at a recall that is not reached
            (Manning et al. 2008, section 8.4).
    """

    precision: NDArray[np.float64]
    recall: NDArray[np.float64]
    interpolated: NDArray[np.float64]


def average_precision(relevance: Relevance, relevant: int) -> float:
    """Average precision of one answer, 0…1.

    It is the mean, over all ``relevant`` images of the database, of the precision at the rank of each; an image that
    the answer does not contain counts 0. So an answer that was restricted to a wrongly predicted class scores 0. The
    paper does not define its measure.

    Args:
        relevance: the answer, ``(n,)``.
        relevant: number of relevant images in the whole database.
    """
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


def recall_at(answers: Sequence[Relevance], relevant: Sequence[int], rank: int) -> float:
    """Mean share of all relevant images that the first ``rank`` hits hold, over the queries that have any."""
    shares = [answer[:rank].sum() / count for answer, count in zip(answers, relevant, strict=True) if count]
    return float(np.mean(shares)) if shares else 0.0


def mean_reciprocal_rank(answers: Sequence[Relevance]) -> float:
    """Mean over the queries of one over the rank of the first relevant hit; 0 for an answer without any."""
    ranks = [1 / (1 + int(answer.argmax())) if answer.any() else 0.0 for answer in answers]
    return float(np.mean(ranks)) if ranks else 0.0


def curves(answers: Sequence[Relevance], relevant: Sequence[int], ranks: int) -> Curves:
    """Precision and recall at rank 1…``ranks``, and interpolated precision at 101 recall levels.

    Only queries that have a relevant image in the database count; without any, every value is 0.
    """
    pairs = [(answer, count) for answer, count in zip(answers, relevant, strict=True) if count]
    precision, recall = np.zeros(ranks), np.zeros(ranks)
    interpolated = np.zeros(RECALL_LEVELS)
    places = np.arange(1, ranks + 1)
    for start in range(0, len(pairs), _CHUNK):
        chunk = pairs[start : start + _CHUNK]
        hits = np.zeros((len(chunk), ranks), dtype=bool)
        for row, (answer, _) in enumerate(chunk):
            hits[row, : len(answer)] = answer[:ranks]
        counts = np.array([[count] for _, count in chunk])
        found = hits.cumsum(1, dtype=np.int64)
        precision += (found / places).sum(0)
        recall += (found / counts).sum(0)
        interpolated += _interpolated(found, counts[:, 0]).sum(0)
    queries = max(len(pairs), 1)
    return Curves(precision / queries, recall / queries, interpolated / queries)


def _interpolated(found: NDArray[np.int64], relevant: NDArray[np.int64]) -> NDArray[np.float64]:
    """Interpolated precision ``(n, levels)`` from the numbers of relevant hits up to each rank ``(n, ranks)``."""
    best_from_here = np.maximum.accumulate((found / np.arange(1, found.shape[1] + 1))[:, ::-1], axis=1)[:, ::-1]
    levels = np.zeros((len(found), RECALL_LEVELS))
    for row, (counts, total) in enumerate(zip(found, relevant, strict=True)):
        needed = -(-np.arange(RECALL_LEVELS) * int(total) // (RECALL_LEVELS - 1))  # whole images, rounded up
        rank = np.searchsorted(counts, needed)
        reached = rank < len(counts)
        levels[row, reached] = best_from_here[row, rank[reached]]
    return levels


def relevance(labels: Sequence[Any], label: Any) -> Relevance:
    """Which of the hits' labels are the query's."""
    return np.array([other == label for other in labels], dtype=bool)
