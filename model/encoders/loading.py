"""An encoder from its folder, ready to embed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from model.errors import CheckpointError, SettingError
from model.network.encoder import EncoderDescription
from model.network.heads import of_length_one
from model.network.runtimes import onnx_runs_on_gpus

if TYPE_CHECKING:
    from model.network.embedder import Run

Array = NDArray[np.float32]

Forward = Callable[[Array], Array]
"""Scaled images ``(n, channels, size, size)`` to the network's raw output ``(n, …)``, both float32."""


def load_encoder(folder: Path, encoder: EncoderDescription, *, device: str, threads: int | None) -> Run:
    """What runs an encoder: see :data:`model.network.embedder.Run`; its outputs before a softmax have no columns.

    Raises:
        CheckpointError: its weights are gone, damaged, or do not fit.
        SettingError: what runs it is not installed, or the device cannot be used.
    """
    forward = load_forward(folder, encoder, device=device, threads=threads)

    def run(images: NDArray[np.uint8], layers: Sequence[str]) -> tuple[Array, dict[str, Array]]:
        features = embed(forward, encoder, images)
        return np.empty((len(images), 0), np.float32), {layer: features for layer in layers if layer == encoder.layer}

    return run


def load_forward(folder: Path, encoder: EncoderDescription, *, device: str, threads: int | None) -> Forward:
    """What computes an encoder's raw output.

    Raises:
        CheckpointError, SettingError: as :func:`load_encoder`.
    """
    weights = folder / encoder.weights
    if not weights.exists():
        raise CheckpointError(f"{weights} is gone: put it back, or bring the encoder in anew with 'cbmir model import'")
    match encoder.kind:
        case "onnx":
            from model.encoders.onnx_file import load_onnx

            if device != "cpu" and encoder.on_gpus and not onnx_runs_on_gpus():
                from model.encoders.torch_networks import load_efficientnet_lite

                return load_efficientnet_lite(folder / encoder.on_gpus, device, threads)
            return load_onnx(weights, encoder, device=device, threads=threads)
        case "timm" | "transformers" | "efficientnet-lite":
            from model.encoders.torch_networks import load_torch_encoder

            return load_torch_encoder(weights, encoder, device, threads)
    raise CheckpointError(f"{folder} is an encoder of kind {encoder.kind!r}, which this version does not know")


def embed(forward: Forward, encoder: EncoderDescription, images: NDArray[np.uint8]) -> Array:
    """Prepared images ``(n, *shape)`` as features ``(n, values)``, in the numbers that the network takes at once."""
    size = encoder.batch or max(1, len(images))
    outputs = []
    for start in range(0, len(images), size):
        scaled = encoder.preparation.scale(images[start : start + size])
        missing = size - len(scaled) if encoder.batch else 0
        raw = forward(np.pad(scaled, ((0, missing), (0, 0), (0, 0), (0, 0))) if missing else scaled)
        outputs.append(pool(raw[: len(scaled)], encoder))
    features = np.concatenate(outputs) if outputs else np.empty((0, encoder.values), np.float32)
    if encoder.normalised:
        features = of_length_one(features)
    return np.ascontiguousarray(features, np.float32)


def pool(raw: Array, encoder: EncoderDescription) -> Array:
    """One vector an image, of an output ``(n, values)``, ``(n, positions, values)`` or ``(n, values, rows, columns)``.

    Raises:
        CheckpointError: the output has another shape.
    """
    if raw.ndim == 4 and encoder.pooling == "mean":
        return np.asarray(raw.mean(axis=(2, 3)), np.float32)
    if raw.ndim == 4:
        raw = raw.reshape(*raw.shape[:2], -1).swapaxes(1, 2)
    if raw.ndim == 3 and encoder.pooling == "mean":
        raw = raw.mean(axis=1)
    elif (raw.ndim == 3 and encoder.pooling == "first") or (raw.ndim == 3 and raw.shape[1] == 1):
        raw = raw[:, 0]
    if raw.ndim != 2:
        raise CheckpointError(f"its output of shape {raw.shape} is no vector an image: choose how to --pool it")
    return raw


def not_installed(package: str, extra: str) -> SettingError:
    """The error that names a package that is not installed, and the extra that brings it."""
    return SettingError(f"{package} is not installed, which runs this encoder: pip install 'cbmir[{extra}]'")
