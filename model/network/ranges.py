"""How large the activations behind each layer grow: what they must be divided by to become 8-bit integers."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from model.network.architecture import OrganNetwork, scale
from model.network.layers import LAYERS
from model.network.preprocessing import batches, centre_crop

IMAGES = 1024
"""Most images looked at, evenly chosen."""


@torch.inference_mode()
def activation_ranges(network: OrganNetwork, images: NDArray[np.uint8]) -> dict[str, float]:
    """Largest outputs of each layer, after ReLU, over the images' centre crops.

    Args:
        network: plain, in evaluation mode, on the processor.
        images: ``(n, 256, 256)`` uint8, at least one.
    """
    chosen = np.unique(np.linspace(0, len(images) - 1, IMAGES).astype(int))
    ranges: dict[str, float] = {}

    def note(name: str, values: Tensor) -> Tensor:
        ranges[name] = max(ranges.get(name, 0.0), float(values.max()))
        return values

    for batch in batches(chosen):
        x = scale(torch.from_numpy(centre_crop(images[batch]).copy()))
        for name, module in network.convolutional.named_children():
            x = module(x)
            if name.startswith("relu"):
                note(name.replace("relu", "cvl"), x)
        x = x.flatten(1)
        for layer in LAYERS:
            x = note(layer, torch.relu(getattr(network, layer)(x)))
    return ranges
