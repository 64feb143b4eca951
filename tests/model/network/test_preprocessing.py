from __future__ import annotations

import numpy as np
import pytest
import torch

from model.network.architecture import scale
from model.network.preprocessing import centre_crop, resize
from tests.support.models import prepared


@pytest.mark.parametrize("shape", [(256, 256), (1, 1), (64, 64), (3000, 2000), (7, 900)])
def test_any_size_becomes_the_networks_input(shape: tuple[int, int]) -> None:
    assert prepared(np.full(shape, 77, np.uint8)).shape == (224, 224)
    assert (prepared(np.full(shape, 77, np.uint8)) == 77).all()


def test_resizing_averages_what_it_shrinks() -> None:
    checkers = (np.indices((1024, 1024)).sum(axis=0) % 2 * 255).astype(np.uint8)
    assert np.abs(resize(checkers).astype(int) - 127).max() <= 2


def test_the_crop_is_the_centre() -> None:
    image = np.zeros((256, 256), np.uint8)
    image[16:240, 16:240] = 1
    assert centre_crop(image).all()
    assert centre_crop(np.stack([image] * 3)).shape == (3, 224, 224)


def test_scaling_is_symmetric() -> None:
    scaled = scale(torch.tensor([[0, 255]], dtype=torch.uint8).repeat(1, 224, 112))
    assert scaled.shape == (1, 1, 224, 224)
    assert (float(scaled.min()), float(scaled.max())) == (-2.0, 2.0)
