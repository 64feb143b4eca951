from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from model.network.calibration import ACCEPTED, calibrate, probabilities, similarity

CENTROIDS = np.eye(5, 40) * 9


def outputs(count: int, sharpness: float, seed: int = 0) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Outputs whose softmax, after division by ``sharpness``, is right: labels are drawn by it."""
    rng = np.random.default_rng(seed)
    honest = rng.normal(0, 2, (count, 5))
    shares = np.exp(honest) / np.exp(honest).sum(1, keepdims=True)
    labels = np.array([rng.choice(5, p=share) for share in shares])
    return (honest * sharpness).astype(np.float32), labels


def features(logits: NDArray[np.float32], noise: float, seed: int = 0) -> NDArray[np.float32]:
    """Near the centroid of the likeliest class."""
    rng = np.random.default_rng(seed)
    near: NDArray[np.float64] = np.maximum(CENTROIDS[logits.argmax(1)] + rng.normal(0, noise, (len(logits), 40)), 0)
    return near.astype(np.float32)


@pytest.mark.parametrize("sharpness", [0.5, 1.0, 3.0])
def test_the_temperature_makes_overconfidence_good(sharpness: float) -> None:
    logits, labels = outputs(4000, sharpness)
    calibration = calibrate(logits, features(logits, 1), labels, CENTROIDS)
    assert calibration.temperature == pytest.approx(sharpness, rel=0.1)
    shares = probabilities(logits, calibration.temperature)
    assert shares.sum(1) == pytest.approx(1, abs=1e-5)
    assert (shares.argmax(1) == logits.argmax(1)).all()


def test_known_images_stay_known_and_strange_ones_do_not() -> None:
    logits, labels = outputs(1000, 1)
    familiar, strange = features(logits, 1), features(logits, 9, seed=1)
    calibration = calibrate(logits, familiar, labels, CENTROIDS)
    known = similarity(logits, familiar, CENTROIDS) >= calibration.threshold
    assert known.mean() == pytest.approx(ACCEPTED, abs=0.002)
    assert (similarity(logits, strange, CENTROIDS) < calibration.threshold).mean() > 0.99


def test_similarity_is_of_the_likeliest_class_and_of_direction_only() -> None:
    logits = np.array([[9.0, 0, 0, 0, 0], [0, 9, 0, 0, 0], [0, 9, 0, 0, 0]])
    shown = np.array([CENTROIDS[0] / 100, CENTROIDS[0], np.zeros(40)])
    assert similarity(logits, shown, CENTROIDS) == pytest.approx(np.array([1, 0, 0]))


def test_large_outputs_are_probabilities_still() -> None:
    assert probabilities(np.array([[1000.0, 0.0]])) == pytest.approx(np.array([[1, 0]]))
