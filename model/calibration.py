"""Probabilities that can be believed, and an honest "none of these": temperature and threshold of a trained network.

Both are chosen after the training, on images of known classes that were not trained on, and change no weight.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

UNKNOWN: Final = "unknown"
"""Organ of an image that looks like none of the classes."""

ACCEPTED: Final = 0.99
"""Share of the images of known classes that stay above the threshold."""

LEAST_IMAGES: Final = 100
"""With fewer images nothing can be said of the one in a hundred that the threshold is to cut off."""

Logits = NDArray[np.floating[Any]]


@dataclass(frozen=True, slots=True)
class Calibration:
    """What is done with the outputs of a network.

    Attributes:
        temperature: by which they are divided before the softmax (Guo et al. 2017, section 4.2).
        threshold: energy score below which an image is of none of the classes.
        images: how many images the two were chosen on.
    """

    temperature: float = 1.0
    threshold: float = -np.inf
    images: int = 0

    def probabilities(self, logits: Logits) -> NDArray[np.float32]:
        """``(n, classes)`` outputs before the softmax as probabilities."""
        scaled = logits.astype(np.float64) / self.temperature
        probabilities: NDArray[np.float64] = np.exp(scaled - np.logaddexp.reduce(scaled, axis=1, keepdims=True))
        return probabilities.astype(np.float32)

    def known(self, logits: Logits) -> NDArray[np.bool_]:
        """``(n,)``, whether each image is of one of the classes."""
        return energy(logits) >= self.threshold


UNCALIBRATED: Final = Calibration()
"""Takes the softmax as it is, and every image for one of the classes."""


def energy(logits: Logits) -> NDArray[np.float64]:
    """``(n,)`` energy scores, higher for the more familiar: log Σ exp of the outputs (Liu et al. 2020, T = 1)."""
    scores: NDArray[np.float64] = np.logaddexp.reduce(logits.astype(np.float64), axis=1)
    return scores


def calibrate(logits: Logits, labels: NDArray[np.int64]) -> Calibration | None:
    """Choose temperature and threshold on ``(n, classes)`` outputs of images that the network was not trained on.

    Returns:
        ``None`` where there are fewer than :data:`LEAST_IMAGES`.
    """
    from scipy.optimize import minimize_scalar

    if len(labels) < LEAST_IMAGES:
        return None

    def loss(log_temperature: float) -> float:
        scaled = logits.astype(np.float64) / np.exp(log_temperature)
        right = scaled[np.arange(len(labels)), labels]
        return float((np.logaddexp.reduce(scaled, axis=1) - right).mean())

    best = minimize_scalar(loss, bounds=(np.log(0.05), np.log(20.0)), method="bounded")
    threshold = float(np.quantile(energy(logits), 1 - ACCEPTED))
    return Calibration(float(np.exp(best.x)), threshold, len(labels))
