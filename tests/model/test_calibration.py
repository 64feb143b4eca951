from __future__ import annotations

import numpy as np
import pytest

from model.calibration import ACCEPTED, LEAST_IMAGES, UNCALIBRATED, calibrate, energy


def outputs(count: int, sharpness: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Outputs whose softmax, after division by ``sharpness``, is right: labels are drawn by it."""
    rng = np.random.default_rng(seed)
    honest = rng.normal(0, 2, (count, 5))
    shares = np.exp(honest) / np.exp(honest).sum(1, keepdims=True)
    labels = np.array([rng.choice(5, p=share) for share in shares])
    return (honest * sharpness).astype(np.float32), labels


@pytest.mark.parametrize("sharpness", [0.5, 1.0, 3.0])
def test_the_temperature_makes_overconfidence_good(sharpness: float) -> None:
    logits, labels = outputs(4000, sharpness)
    calibration = calibrate(logits, labels)
    assert calibration
    assert calibration.temperature == pytest.approx(sharpness, rel=0.1)
    probabilities = calibration.probabilities(logits)
    assert probabilities.sum(1) == pytest.approx(1, abs=1e-5)
    assert (probabilities.argmax(1) == logits.argmax(1)).all()


def test_known_images_stay_known_and_weaker_ones_do_not() -> None:
    logits, labels = outputs(1000, 4)
    calibration = calibrate(logits, labels)
    assert calibration
    assert calibration.known(logits).mean() == pytest.approx(ACCEPTED, abs=0.002)
    assert not calibration.known(logits / 100 - 10).any()
    assert energy(np.array([[2.0, 2.0]])) == pytest.approx(2 + np.log(2))


def test_too_few_images_calibrate_nothing() -> None:
    logits, labels = outputs(LEAST_IMAGES - 1, 1)
    assert calibrate(logits, labels) is None
    assert UNCALIBRATED.known(logits - 1000).all()
    assert UNCALIBRATED.probabilities(np.array([[1000.0, 0.0]])) == pytest.approx(np.array([[1, 0]]))
