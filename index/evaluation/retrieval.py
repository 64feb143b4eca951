"""Retrieval evaluated as in the paper's section 4.3: every layer, with and without class prediction."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from index.evaluation.measures import (
    Curves,
    Relevance,
    average_precision,
    curves,
    mean_reciprocal_rank,
    precision_at,
    recall_at,
)
from index.evaluation.ranking import Rankings, database, rank_database
from model.training.measures import Interval, bootstrap_interval

if TYPE_CHECKING:
    from model.training.evaluation import Predictions

Protocol = Literal["training images", "leave group out"]
"""The database holds the training images; or every image, less those of the query's own group."""

RANKS = (1, 5, 10)


@dataclass(frozen=True, slots=True)
class RetrievalSetting:
    """One way to search: in which database, by which layer, within the predicted class or not, exactly or not."""

    protocol: Protocol
    layer: str
    with_class_prediction: bool
    exact: bool


@dataclass(frozen=True, slots=True)
class RetrievalResult:
    """Measures of one way to search; see :mod:`index.evaluation.measures` for their definitions.

    Attributes:
        queries: how many count: those that have a relevant image in the database.
        mean_average_precision: with its 95 % ``interval`` over 100 resamples of the queries.
        precision, recall: at ranks 1, 5 and 10.
        curves: at every rank, and interpolated.
        rankings: ``(queries, n)``; of every query, also those that do not count.
        average_precisions: ``(queries,)``; 0 of those that do not count.
        counted: ``(queries,)``; which have a relevant image.
        seconds: for all rankings.
    """

    setting: RetrievalSetting
    queries: int
    mean_average_precision: float
    interval: Interval | None
    precision: dict[int, float]
    recall: dict[int, float]
    mean_reciprocal_rank: float
    curves: Curves
    rankings: Rankings
    average_precisions: NDArray[np.float64]
    counted: NDArray[np.bool_]
    seconds: float


def evaluate_retrieval(
    queries: Predictions,
    images: Predictions,
    classes: Sequence[str],
    protocol: Protocol,
    layers: tuple[str, ...],
    *,
    dot_layers: tuple[str, ...] = (),
    searches: Sequence[bool] = (True, False),
    left_out: Sequence[Collection[int]] | None = None,
    seed: int = 0,
    progress: Callable[[RetrievalSetting, int], None] | None = None,
) -> Iterator[RetrievalResult]:
    """Put the images into a real index and rank them for every query, in every way.

    Args:
        queries: with the features of ``layers``.
        images: the database, likewise.
        classes: names of the class numbers.
        protocol: what the database is, told in the results.
        layers: whose features to compare.
        dot_layers: those that are compared by their dot products.
        searches: ``True`` for an exact search, ``False`` for one through the graph; by default both are made.
        left_out: for each query, positions among ``images`` that are not ranked and do not count as relevant.
        seed: of the resampling.
        progress: told how many queries of a setting are done.
    """
    relevant = np.bincount(images.labels, minlength=len(classes))[queries.labels]
    if left_out:
        own = [int((images.labels[list(o)] == label).sum()) for o, label in zip(left_out, queries.labels, strict=True)]
        relevant = relevant - np.array(own)
    with database(images, classes, layers, dot_layers) as index:
        for exact in searches:
            for layer in layers:
                for with_class_prediction in (False, True):
                    setting = RetrievalSetting(protocol, layer, with_class_prediction, exact)
                    started = time.perf_counter()
                    rankings = rank_database(
                        index,
                        queries,
                        layer,
                        size=len(images.labels),
                        with_class_prediction=with_class_prediction,
                        exact=exact,
                        left_out=left_out,
                        progress=partial(progress, setting) if progress else None,
                    )
                    seconds = time.perf_counter() - started
                    answers = relevances(rankings, queries.labels, images.labels)
                    yield measure(setting, rankings, answers, relevant, seconds, seed)


def relevances(rankings: Rankings, query_labels: NDArray[np.int64], labels: NDArray[np.int64]) -> list[Relevance]:
    """Which hits are of the query's true class, an array a query, as long as its answer."""
    return [labels[row[row >= 0]] == label for row, label in zip(rankings, query_labels, strict=True)]


def measure(
    setting: RetrievalSetting,
    rankings: Rankings,
    answers: Sequence[Relevance],
    relevant: NDArray[np.int64],
    seconds: float,
    seed: int,
) -> RetrievalResult:
    """Compute all measures of one way to search.

    Args:
        setting: the way to search.
        rankings: ``(queries, n)``: see :data:`index.evaluation.ranking.Rankings`.
        answers: for each query, which of its hits are relevant.
        relevant: ``(queries,)``, numbers of relevant images in the database.
        seconds: time that all rankings took.
        seed: of the resampling.
    """
    counted = np.flatnonzero(relevant)
    chosen, counts = [answers[n] for n in counted.tolist()], relevant[counted].tolist()
    average_precisions = np.array([average_precision(a, int(n)) for a, n in zip(answers, relevant, strict=True)])
    of_counted = average_precisions[counted]
    return RetrievalResult(
        setting=setting,
        queries=len(counted),
        mean_average_precision=float(of_counted.mean()) if len(counted) else 0.0,
        interval=bootstrap_interval(lambda sample: float(sample.mean()), of_counted, seed=seed),
        precision={rank: precision_at(chosen, rank) for rank in RANKS},
        recall={rank: recall_at(chosen, counts, rank) for rank in RANKS},
        mean_reciprocal_rank=mean_reciprocal_rank(chosen),
        curves=curves(chosen, counts, rankings.shape[1]),
        rankings=rankings,
        average_precisions=average_precisions,
        counted=relevant > 0,
        seconds=seconds,
    )
