"""The embedder: network inputs in, class probabilities and features out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from model.checkpoint import Metadata, load_network
from model.devices import to_device
from model.errors import SettingError
from model.network import LAYERS, OrganNetwork, scale
from model.preprocessing import INPUT


@dataclass(frozen=True, slots=True)
class Embeddings:
    """What the network makes of ``n`` images.

    Attributes:
        probabilities: ``(n, classes)`` float32, each row summing to 1.
        features: by layer name, ``(n, 4096)`` float32, non-negative.
    """

    probabilities: NDArray[np.float32]
    features: dict[str, NDArray[np.float32]]


class Embedder:
    """A trained network, ready to embed.

    Attributes:
        metadata: what the checkpoint says of itself; its ``classes`` name the columns of the probabilities.
    """

    def __init__(self, network: OrganNetwork, metadata: Metadata, *, device: str = "cpu") -> None:
        self._network, self._device = to_device(network, device), torch.device(device)
        self.metadata = metadata

    @classmethod
    def load(cls, path: str | Path, *, device: str = "cpu") -> Embedder:
        """Load the checkpoint at ``path``.

        Raises:
            CheckpointError: it is missing, damaged, or of another version.
            SettingError: the device cannot be used.
        """
        network, metadata = load_network(Path(path))
        return cls(network, metadata, device=device)

    @torch.inference_mode()
    def embed(self, images: NDArray[np.uint8], layers: Sequence[str] = ("fcl1",)) -> Embeddings:
        """Embed ``(n, 224, 224)`` uint8 images, as :func:`model.preprocessing.to_input` makes them.

        Raises:
            SettingError: there is no such layer.
        """
        if unknown := [layer for layer in layers if layer not in LAYERS]:
            raise SettingError(f"there is no layer {unknown[0]!r}: choose among {', '.join(LAYERS)}")
        if images.shape[1:] != (INPUT, INPUT):
            raise ValueError(f"the network takes {INPUT} × {INPUT} images, not {images.shape[1:]}")
        pixels = scale(torch.tensor(images).to(self._device))
        log_probabilities, features = self._network.features(pixels, layers)
        return Embeddings(
            log_probabilities.exp().cpu().numpy(), {layer: f.float().cpu().numpy() for layer, f in features.items()}
        )
