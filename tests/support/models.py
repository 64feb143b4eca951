"""Checkpoints of networks that nobody has trained."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from model.images.frames import Frame, Header
from model.network.bundled import find_model
from model.network.preparation import PAPER
from tests.support import phantoms

NARROW = 256
"""Width of the tests' networks: what is done with a feature is the same, and takes a tenth of time and memory."""


def make_model(
    path: Path, *, seed: int, classes: tuple[str, ...] = tuple(phantoms.ORGANS), width: int = NARROW
) -> Path:
    """Write an untrained checkpoint."""
    import torch

    from model.network.architecture import OrganNetwork, initialise
    from model.network.checkpoint import fingerprint, save_checkpoint
    from model.network.metadata import Metadata

    torch.manual_seed(seed)
    network = OrganNetwork(len(classes), width=width)
    initialise(network, "he")
    weights = network.state_dict()
    save_checkpoint(path, weights, Metadata(classes, fingerprint(weights, classes), width=width))
    return path


def prepared(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """What of a grey picture enters the network of the paper."""
    return PAPER(Frame(pixels, 1, 1, "", Header()))


def encoder_for_processors(folder: Path) -> Path:
    """An encoder that is an ONNX file and no more: lite0 without the weights by which torch computes it on GPUs."""
    shutil.copytree(find_model("lite0"), folder)
    description = json.loads((folder / "encoder.json").read_text())
    (folder / "encoder.json").write_text(json.dumps(description | {"on_gpus": ""}))
    return folder
