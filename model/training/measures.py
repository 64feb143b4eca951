"""Classification measures of the paper (sections 4.2-4.3), computed by scikit-learn and SciPy."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

RESAMPLES = 100
"""The paper evaluates its test set 100 times; a fixed network and test set vary only in which images are drawn."""

_CALIBRATION_BINS = 15

ClassNumbers = NDArray[np.integer[Any]]


@dataclass(frozen=True, slots=True)
class ClassMeasures:
    """Precision, recall and F1 of one class, 0…1, and its number of images; ``None`` where it has no image."""

    name: str
    precision: float | None
    recall: float | None
    f1: float | None
    images: int


@dataclass(frozen=True, slots=True)
class ClassificationMeasures:
    """Measures of predicted against true classes.

    Attributes:
        accuracy: share of images predicted right.
        average_precision: mean of the precisions of the classes that have images (AP of the paper, macro). A class that
            is never predicted has precision 0.
        average_recall: mean of their recalls (AR; its formula prints TN where FN must stand).
        f1: 2·AP·AR/(AP+AR), as the paper defines it: of the means, not the mean of the classes' F1.
        classes: each class by itself.
        confusion: ``(classes, classes)`` counts, true class by row.
    """

    accuracy: float
    average_precision: float
    average_recall: float
    f1: float
    classes: tuple[ClassMeasures, ...]
    confusion: tuple[tuple[int, ...], ...]

    def to_json(self) -> dict[str, Any]:
        """Plain values for a JSON report."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Interval:
    """A figure's 95 % bootstrap interval."""

    low: float
    high: float


def classification_measures(
    true: ClassNumbers, predicted: ClassNumbers, classes: Sequence[str]
) -> ClassificationMeasures:
    """Compare true and predicted class numbers, both ``(n,)``, n > 0, positions in ``classes``."""
    from sklearn.metrics import accuracy_score, confusion_matrix, precision_recall_fscore_support

    numbers = list(range(len(classes)))
    precision, recall, f1, images = precision_recall_fscore_support(true, predicted, labels=numbers, zero_division=0)
    ap, ar = float(precision[images > 0].mean()), float(recall[images > 0].mean())
    return ClassificationMeasures(
        accuracy=float(accuracy_score(true, predicted)),
        average_precision=ap,
        average_recall=ar,
        f1=2 * ap * ar / (ap + ar) if ap + ar else 0.0,
        classes=tuple(
            ClassMeasures(name, float(p), float(r), float(f), int(n)) if n else ClassMeasures(name, None, None, None, 0)
            for name, p, r, f, n in zip(classes, precision, recall, f1, images, strict=True)
        ),
        confusion=tuple(tuple(map(int, row)) for row in confusion_matrix(true, predicted, labels=numbers)),
    )


def expected_calibration_error(confidence: NDArray[np.floating[Any]], right: NDArray[np.bool_]) -> float:
    """How far confidence and accuracy are apart, 0…1 (Guo et al. 2017, eq. 3), over 15 bins of equal width.

    Args:
        confidence: ``(n,)`` probability of each prediction, n > 0.
        right: ``(n,)`` whether it is right.
    """
    bins = np.minimum((confidence * _CALIBRATION_BINS).astype(int), _CALIBRATION_BINS - 1)
    gaps = [abs(float((right[bins == b] - confidence[bins == b]).sum())) for b in np.unique(bins)]
    return sum(gaps) / len(confidence)


def bootstrap_interval(statistic: Callable[..., float], *samples: NDArray[Any], seed: int = 0) -> Interval | None:
    """As :func:`bootstrap_intervals`, of a single figure; ``None`` where there is nothing to resample."""
    intervals = bootstrap_intervals(lambda *resample: (statistic(*resample),), *samples, seed=seed)
    return intervals[0] if intervals else None


def bootstrap_intervals(
    statistics: Callable[..., Sequence[float]], *samples: NDArray[Any], seed: int = 0
) -> list[Interval]:
    """The 95 % percentile intervals of figures over 100 resamples of the images, drawn with replacement.

    Args:
        statistics: takes resampled arrays, one for each of ``samples``; as many figures each time.
        samples: arrays of one length, an element an image.
        seed: of the resampling.

    Returns:
        An interval a figure; none where a single image leaves nothing to resample.
    """
    from scipy.stats import bootstrap

    if len(samples[0]) < 2:
        return []
    interval = bootstrap(
        samples,
        statistics,
        paired=True,
        vectorized=False,
        n_resamples=RESAMPLES,
        method="percentile",
        rng=seed,
    ).confidence_interval
    return [Interval(float(low), float(high)) for low, high in zip(interval.low, interval.high, strict=True)]
