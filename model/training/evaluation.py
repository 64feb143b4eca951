"""What a trained network says of labelled images, and how right it is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model.network.embedder import Embedder
from model.network.preprocessing import batches, centre_crop
from model.training.loading import LabelledFrames
from model.training.measures import (
    ClassificationMeasures,
    Interval,
    bootstrap_interval,
    bootstrap_intervals,
    classification_measures,
    expected_calibration_error,
)


@dataclass(frozen=True, slots=True)
class Predictions:
    """Images with their true classes and what the network makes of them.

    Attributes:
        labels: ``(n,)`` int64, true classes.
        probabilities: ``(n, classes)`` float32.
        features: by layer, ``(n, width)`` float32.
        known: ``(n,)``, whether each looks like one of the classes.
    """

    labels: NDArray[np.int64]
    probabilities: NDArray[np.float32]
    features: dict[str, NDArray[np.float32]]
    known: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, part: slice) -> Predictions:
        features = {layer: values[part] for layer, values in self.features.items()}
        return Predictions(self.labels[part], self.probabilities[part], features, self.known[part])

    @property
    def predicted(self) -> NDArray[np.int64]:
        """``(n,)`` predicted classes, the likeliest ones also of images that look like none."""
        return np.asarray(self.probabilities.argmax(1), np.int64)

    @property
    def confidence(self) -> NDArray[np.float32]:
        """``(n,)`` probability of the predicted class."""
        return np.asarray(self.probabilities.max(1, initial=0), np.float32)


@dataclass(frozen=True, slots=True)
class ClassificationResult:
    """Measures of a test part, each figure's bootstrap interval by its name, and the calibration error."""

    measures: ClassificationMeasures
    calibration_error: float
    intervals: dict[str, Interval | None]


def predict(
    embedder: Embedder,
    frames: LabelledFrames,
    layers: Sequence[str],
    progress: Callable[[int], None] | None = None,
) -> Predictions:
    """Embed every frame, prepared for the model or resized for the paper's network; ``progress`` counts them."""
    probabilities = np.empty((len(frames), len(embedder.classes)), np.float32)
    features: dict[str, NDArray[np.float32]] = {}
    known = np.empty(len(frames), np.bool_)
    done = 0
    for batch in batches(frames.images):
        prepared = batch if batch.shape[1:] == embedder.preparation.shape else centre_crop(batch)
        embeddings = embedder.embed(prepared, layers)
        start, done = done, done + len(batch)
        probabilities[start:done], known[start:done] = embeddings.probabilities, embeddings.known
        for layer, values in embeddings.features.items():
            features.setdefault(layer, np.empty((len(frames), values.shape[1]), np.float32))[start:done] = values
        if progress:
            progress(done)
    return Predictions(frames.labels, probabilities, features, known)


def classification_result(predictions: Predictions, classes: Sequence[str], *, seed: int = 0) -> ClassificationResult:
    """Measure predictions, at least one, with the 95 % interval of each figure over 100 resamples."""
    true, predicted, confidence = predictions.labels, predictions.predicted, predictions.confidence

    names = ("accuracy", "average_precision", "average_recall", "f1")

    def figures(true: NDArray[Any], predicted: NDArray[Any]) -> list[float]:
        measures = classification_measures(true, predicted, classes)
        return [float(getattr(measures, name)) for name in names]

    found = bootstrap_intervals(figures, true, predicted, seed=seed)
    intervals: dict[str, Interval | None] = dict(zip_longest(names, found))
    right = predicted == true
    intervals["calibration_error"] = bootstrap_interval(expected_calibration_error, confidence, right, seed=seed)
    return ClassificationResult(
        classification_measures(true, predicted, classes), expected_calibration_error(confidence, right), intervals
    )
