from __future__ import annotations

import numpy as np
import pytest

from model.training import degradations
from model.training.degradations import degraded
from tests.support import phantoms

NAMES = ("SMALLER", "COMPRESSED", "BORDERED", "WRITTEN", "WINDOWED", "INVERTED", "NOISY")


@pytest.fixture
def images() -> np.ndarray:
    return np.stack([phantoms.draw(organ, 0, 256) for organ in phantoms.ORGANS]).astype(np.uint8)


@pytest.mark.parametrize("name", NAMES)
def test_each_changes_an_image_and_leaves_it_one(
    name: str, images: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    for other in NAMES:
        monkeypatch.setattr(degradations, other, 1.0 if other == name else 0.0)
    before = images.copy()
    for seed in range(20):
        changed = degraded(images, np.random.default_rng(seed))
        assert changed.shape == images.shape
        assert changed.dtype == np.uint8
        assert not np.array_equal(changed, images)
        if name in {"SMALLER", "COMPRESSED"}:  # it is still the same picture
            assert np.abs(changed.astype(float) - images).mean() < 20
    assert np.array_equal(images, before)


def test_most_images_are_changed_and_some_are_not(images: np.ndarray) -> None:
    many = np.concatenate([images] * 20)
    changed = (degraded(many, np.random.default_rng(0)) != many).any((1, 2)).mean()
    assert 0.5 < changed < 0.95


def test_equal_seeds_degrade_alike(images: np.ndarray) -> None:
    first, second = (degraded(images, np.random.default_rng(3)) for _ in range(2))
    assert np.array_equal(first, second)
