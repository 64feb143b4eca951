"""Checkpoints of networks that nobody has trained."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

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


def transformers_folder(folder: Path) -> Path:
    """A small vision transformer as transformers saves one, its weights at random."""
    import torch
    import transformers

    torch.manual_seed(0)
    size: dict[str, Any] = {"hidden_size": 48, "intermediate_size": 64, "image_size": 32, "patch_size": 8}
    config = transformers.ViTConfig(num_hidden_layers=1, num_attention_heads=2, **size)
    transformers.ViTModel(config, add_pooling_layer=False).save_pretrained(folder)
    processor = {"size": {"height": 32, "width": 32}, "image_mean": [0.5] * 3, "image_std": [0.5] * 3, "resample": 3}
    (folder / "preprocessor_config.json").write_text(json.dumps(processor))
    return folder


def timm_encoder(folder: Path) -> Path:
    """A small network of timm, brought in as an encoder, in colour, its weights at random."""
    import torch
    from safetensors.torch import save_file

    from model.encoders.importing import ImportOptions, import_encoder
    from model.encoders.torch_networks import timm_network

    torch.manual_seed(0)
    weights = folder.with_name("weights.safetensors")
    save_file(timm_network("test_resnet").state_dict(), weights)
    colours = ImportOptions(size=48, mean=(0.5,), std=(0.25,), channels=3)
    import_encoder("timm:test_resnet", folder, colours, weights=weights)
    return folder
