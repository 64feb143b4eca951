"""Random views of training images, so that a network learns organs and not pixels."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from model.network.preprocessing import INPUT, RESIZED

ANGLE = math.radians(15)
ZOOM = (0.8, 1.15)
SHIFT = 1 - INPUT / RESIZED
QUARTER_TURNED = 0.3
CONTRAST = 0.3
GAMMA = 0.3
BRIGHTNESS = 24.0
ERASED = 0.25
ERASED_SIDE = (0.1, 0.35)


def random_views(images: Tensor, size: int) -> Tensor:
    """A random view of each image, from torch's global random generator.

    Mirrored (one half), turned by up to 15° and three tenths of them by quarter turns besides, as microscopy and
    endoscopy know no upright, zoomed by 0.8-1.15, shifted by up to 16 of 256 pixels; other contrast, gamma and
    brightness; of a quarter of them a rectangle is erased.

    Args:
        images: ``(n, 256, 256)`` uint8.
        size: side of the views in pixels; that of the network's input is 224.

    Returns:
        ``(n, size, size)`` float32, 0…255.
    """
    pixels = images.unsqueeze(1).to(torch.float32)
    if 2 * size <= RESIZED:
        pixels = nn.functional.avg_pool2d(pixels, 2)  # what is scaled down by sampling alone would be jagged
    where = _placements(len(images), images.device)
    grid = nn.functional.affine_grid(where, [len(images), 1, size, size], align_corners=False)
    views = nn.functional.grid_sample(pixels, grid, mode="bilinear", padding_mode="reflection", align_corners=False)
    return _erased(_toned(views.squeeze(1)))


def random_colour_views(images: Tensor) -> Tensor:
    """A random view of each image as it enters an encoder: as :func:`random_views`, upright, whole and in its colours.

    Args:
        images: ``(n, channels, size, size)`` uint8.

    Returns:
        The same in float32, 0…255.
    """
    where = _placements(len(images), images.device, shown=1.0, turned=0.0)
    grid = nn.functional.affine_grid(where, list(images.shape), align_corners=False)
    pixels = images.to(torch.float32)
    views = nn.functional.grid_sample(pixels, grid, mode="bilinear", padding_mode="reflection", align_corners=False)
    return _toned(views)


def _placements(
    n: int, device: torch.device, *, shown: float = INPUT / RESIZED, turned: float = QUARTER_TURNED
) -> Tensor:
    """Affine maps from the view to the image, ``(n, 2, 3)``, in units of half the image's side.

    Args:
        n: how many.
        device: of the result.
        shown: part of the image's side that a view shows by itself.
        turned: share of the images that are turned by quarters.
    """
    quarters = torch.randint(1, 4, (n,)) * torch.rand(n).lt(turned)
    angle = (2 * torch.rand(n) - 1) * ANGLE + quarters * (math.pi / 2)
    zoom = torch.empty(n).uniform_(math.log(ZOOM[0]), math.log(ZOOM[1])).exp() * shown
    mirror = 1 - 2 * torch.rand(n).lt(0.5).to(torch.float32)
    cos, sin = angle.cos() * zoom, angle.sin() * zoom
    shift = (2 * torch.rand(n, 2) - 1) * SHIFT
    rows = [torch.stack([cos * mirror, -sin, shift[:, 0]], 1), torch.stack([sin * mirror, cos, shift[:, 1]], 1)]
    return torch.stack(rows, 1).to(device)


def _toned(views: Tensor) -> Tensor:
    each, device = (len(views), *[1] * (views.ndim - 1)), views.device
    contrast, gamma = (torch.empty(each).uniform_(-v, v).exp().to(device) for v in (CONTRAST, GAMMA))
    brightness = torch.empty(each).uniform_(-BRIGHTNESS, BRIGHTNESS).to(device)
    toned = ((views - 127.5) * contrast + 127.5 + brightness).clamp(0, 255)
    return toned.div_(255).pow(gamma).mul_(255)


def _erased(views: Tensor) -> Tensor:
    n, size, device = len(views), views.shape[-1], views.device
    side = torch.empty(n, 2).uniform_(*ERASED_SIDE) * torch.rand(n, 1).lt(ERASED)
    start = torch.rand(n, 2) * (1 - side)
    places = torch.arange(size) / size
    inside = (places >= start.unsqueeze(2)) & (places < (start + side).unsqueeze(2))
    mask = (inside[:, 0, :, None] & inside[:, 1, None, :]).to(device)
    return torch.where(mask, (255 * torch.rand(n, 1, 1)).to(device), views)
