from __future__ import annotations

import pytest
import torch

from model.training.augmentation import random_views


def gradient(n: int) -> torch.Tensor:
    return torch.arange(256, dtype=torch.uint8).repeat(n, 256, 1)


@pytest.mark.parametrize("size", [96, 128, 160, 224])
def test_views_have_their_size_and_stay_grey(size: int) -> None:
    torch.manual_seed(0)
    views = random_views(gradient(32), size)
    assert views.shape == (32, size, size)
    assert views.dtype == torch.float32
    assert views.min() >= 0
    assert views.max() <= 255
    assert torch.isfinite(views).all()


def test_views_are_seeded_and_differ() -> None:
    torch.manual_seed(3)
    first = random_views(gradient(8), 128)
    torch.manual_seed(3)
    assert torch.equal(random_views(gradient(8), 128), first)
    assert len({float(view.mean()) for view in first}) == 8
    assert not torch.equal(random_views(gradient(8), 128), first)


def test_a_view_shows_the_image_whatever_its_size() -> None:
    """Nothing but the content decides how bright a view is: a bright disc in the middle stays in every view."""
    y, x = torch.meshgrid(torch.arange(256) - 128, torch.arange(256) - 128, indexing="ij")
    disc = (x.square() + y.square() < 60**2).to(torch.uint8).mul(200).repeat(200, 1, 1)
    for size in (128, 224):
        torch.manual_seed(0)
        views = random_views(disc, size)
        middle, corner = views[:, size // 2 - 8 : size // 2 + 8, size // 2 - 8 : size // 2 + 8], views[:, :8, :8]
        assert (middle.mean((1, 2)) > corner.mean((1, 2)) + 60).float().mean() > 0.9  # but where it was erased
