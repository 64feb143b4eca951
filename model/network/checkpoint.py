"""Checkpoints: a network's weights as safetensors, with everything needed to use them rightly. Never pickle."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from model.errors import CheckpointError
from model.files import let_others_read, written_whole
from model.network.compression import expand
from model.network.metadata import FORMAT, KEY, Calibration, Metadata, read_metadata
from model.network.preprocessing import PREPROCESSING

if TYPE_CHECKING:
    from torch import Tensor

    from model.network.architecture import OrganNetwork

CENTROIDS = "calibration.centroids"
"""Tensor of the classes' mean features, beside the weights of a calibrated network."""


def fingerprint(weights: Mapping[str, Tensor], classes: Sequence[str], calibration: Calibration | None = None) -> str:
    """32 hexadecimal digits over the weights' bytes, the classes, the preprocessing and the calibration."""
    digest = hashlib.sha256(json.dumps([FORMAT, PREPROCESSING, list(classes)]).encode())
    if calibration:
        digest.update(json.dumps(asdict(calibration)).encode())
    for name in sorted(weights):
        digest.update(name.encode())
        digest.update(weights[name].detach().cpu().contiguous().numpy().data)
    return digest.hexdigest()[:32]


def save_checkpoint(path: Path, weights: Mapping[str, Tensor], metadata: Metadata) -> None:
    """Write a checkpoint atomically: a reader sees the old file or the new one, never a part."""
    values = {"format": FORMAT, **asdict(metadata)}
    del values["encoder"], values["members"]  # which have no checkpoint
    save_tensors(path, weights, {KEY: json.dumps(values)})


def save_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Write tensors and metadata as safetensors, atomically and flushed to disk.

    Raises:
        CheckpointError: the folder does not exist, is not writable, or the disk is full.
    """
    from safetensors.torch import save_file

    path = path.absolute()
    try:
        with written_whole(path) as partial:
            save_file(
                {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}, partial, dict(metadata)
            )
            let_others_read(partial)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{path} cannot be written: {error}") from error


def read_centroids(path: Path) -> NDArray[np.float16] | None:
    """The classes' mean features ``(classes, width)`` of a calibrated network, else ``None``.

    See :mod:`model.network.calibration`.

    Raises:
        CheckpointError: the file is missing or damaged.
    """
    try:
        with safe_open(path, framework="numpy") as file:
            return np.asarray(file.get_tensor(CENTROIDS)) if CENTROIDS in set(file.keys()) else None
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{path} is no model file, or is damaged: {error}") from error


def load_network(path: Path) -> tuple[OrganNetwork, Metadata]:
    """Load a checkpoint into a network in evaluation mode; the file is mapped, not copied, unless it is compressed.

    Raises:
        CheckpointError: as :func:`read_metadata`, or the weights do not fit the network.
    """
    import torch
    from safetensors.torch import load_file

    from model.network.architecture import OrganNetwork

    metadata = read_metadata(path)
    if metadata.encoder:
        raise CheckpointError(f"{path} is another program's network: for this, give a model written by 'cbmir train'")
    if metadata.members:
        raise CheckpointError(f"{path} joins models: for this, give one of them that was written by 'cbmir train'")
    with torch.device("meta"):  # no memory and no initialisation for weights that the file brings
        network = OrganNetwork(len(metadata.classes), width=metadata.width)
    try:
        weights = load_file(path)
        weights.pop(CENTROIDS, None)
        if metadata.rank is not None:
            expanded = expand({name: tensor.numpy() for name, tensor in weights.items()})
            weights = {name: torch.from_numpy(array) for name, array in expanded.items()}
        network.load_state_dict(weights, strict=True, assign=True)
    except (RuntimeError, SafetensorError) as error:
        raise CheckpointError(f"{path} does not hold this network's weights: {error}") from error
    return network.eval().requires_grad_(False), metadata
