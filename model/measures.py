"""Classification measures of the paper (sections 4.2-4.3), computed by scikit-learn."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class ClassMeasures:
    """Precision, recall and F1 of one class, 0…1, and its number of images."""

    name: str
    precision: float
    recall: float
    f1: float
    images: int


@dataclass(frozen=True, slots=True)
class ClassificationMeasures:
    """Measures of predicted against true classes.

    Attributes:
        accuracy: share of images predicted right.
        average_precision: mean of the classes' precisions (AP of the paper, macro).
        average_recall: mean of the classes' recalls (AR; its formula prints TN where FN must stand).
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


def classification_measures(
    true: NDArray[np.integer[Any]], predicted: NDArray[np.integer[Any]], classes: Sequence[str]
) -> ClassificationMeasures:
    """Compare true and predicted class numbers, both ``(n,)``, positions in ``classes``."""
    from sklearn.metrics import accuracy_score, confusion_matrix, precision_recall_fscore_support

    numbers = list(range(len(classes)))
    precision, recall, f1, images = precision_recall_fscore_support(true, predicted, labels=numbers, zero_division=0)
    ap, ar = float(np.mean(precision)), float(np.mean(recall))
    return ClassificationMeasures(
        accuracy=float(accuracy_score(true, predicted)),
        average_precision=ap,
        average_recall=ar,
        f1=2 * ap * ar / (ap + ar) if ap + ar else 0.0,
        classes=tuple(
            ClassMeasures(name, float(p), float(r), float(f), int(n))
            for name, p, r, f, n in zip(classes, precision, recall, f1, images, strict=True)
        ),
        confusion=tuple(tuple(map(int, row)) for row in confusion_matrix(true, predicted, labels=numbers)),
    )
