from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from model.errors import RepositoryError, SettingError
from model.training.projection import fit_projection


def images(classes: int, each: int, seed: int = 0, noise: float = 3.0) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Features whose largest differences say nothing of the class."""
    rng = np.random.default_rng(seed)
    centres = np.random.default_rng(99).normal(0, 1, (classes, 64))
    labels = np.repeat(np.arange(classes), each)
    nuisance = rng.normal(0, 4, (len(labels), 4)) @ np.random.default_rng(98).normal(0, 1, (4, 64))
    return (centres[labels] + nuisance + rng.normal(0, noise / 8, (len(labels), 64))).astype(np.float32), labels


def nearest_is_right(features: NDArray[np.floating[Any]], labels: NDArray[np.int64]) -> float:
    distances = ((features[:, None] - features[None]) ** 2).sum(-1)
    np.fill_diagonal(distances, np.inf)
    return float((labels[distances.argmin(1)] == labels).mean())


def test_images_that_it_was_not_fitted_on_lie_by_class() -> None:
    mean, matrix = fit_projection(*images(5, 40), dimensions=12)
    assert (mean.shape, matrix.shape) == ((64,), (64, 12))
    assert matrix.dtype == np.float32
    features, labels = images(5, 20, seed=1)
    assert nearest_is_right(features, labels) < 0.6
    assert nearest_is_right((features - mean) @ matrix, labels) > 0.95


def test_what_cannot_be_fitted_is_said() -> None:
    features, labels = images(3, 5)
    with pytest.raises(SettingError, match="15 images of 64 values give from 1 to 14"):
        fit_projection(features, labels, 15)
    with pytest.raises(RepositoryError, match="two classes or more"):
        fit_projection(features, np.zeros_like(labels), 4)
    with pytest.raises(RepositoryError, match="two classes or more"):
        fit_projection(features[:3], np.arange(3), 2)
