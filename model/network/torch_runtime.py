"""The network in torch, on a processor or a GPU."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from model.network.architecture import scale
from model.network.checkpoint import load_network
from model.network.devices import to_device
from model.network.metadata import Metadata

if TYPE_CHECKING:
    from model.network.embedder import Run


def load_torch(path: Path, *, device: str, threads: int | None) -> tuple[Run, Metadata]:
    """A checkpoint's network on ``device``, ready to be run.

    Raises:
        CheckpointError: as :func:`model.network.checkpoint.load_network`.
        SettingError: the device cannot be used.
    """
    if threads:
        torch.set_num_threads(threads)
    network, metadata = load_network(path)
    network = to_device(network, device)
    # By default CUDA convolves with 10 bits of mantissa; features of GPUs and processors belong into one index.
    torch.backends.cudnn.allow_tf32 = False

    @torch.inference_mode()
    def run(
        images: NDArray[np.uint8], layers: Sequence[str]
    ) -> tuple[NDArray[np.float32], dict[str, NDArray[np.float32]]]:
        pixels = scale(torch.tensor(images).to(device))
        logits, features = network.features(pixels, layers)
        return logits.cpu().numpy(), {layer: f.float().cpu().numpy() for layer, f in features.items()}

    return run, metadata
