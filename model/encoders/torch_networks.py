"""Encoders whose architecture a package has (timm, transformers, EfficientNet-Lite), their weights from safetensors.

No code and no weights are fetched, and no pickle is read.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor, nn

from model.encoders.loading import Array, Forward, not_installed
from model.encoders.torchvision_operators import declare_torchvision_operators
from model.errors import CheckpointError
from model.network.devices import to_device
from model.network.encoder import EncoderDescription, Pooling

EFFICIENTNET_LITE: Final = "efficientnet-lite0"

CPU_BATCH: Final = 16
"""Images at once on a processor: EfficientNet-Lite0 takes 60 a second on 2 cores so, in batches of 64 only 39."""


def load_torch_encoder(weights: Path, encoder: EncoderDescription, device: str, threads: int | None) -> Forward:
    """What computes an encoder's raw output by torch.

    Raises:
        CheckpointError, SettingError: as :func:`encoder_network`; or the device cannot be used.
    """
    return _forward(*encoder_network(weights, encoder), device, threads)


def load_efficientnet_lite(weights: Path, device: str, threads: int | None) -> Forward:
    """EfficientNet-Lite0 with its last maps averaged, as an ONNX file of it gives them.

    Raises:
        CheckpointError, SettingError: as :func:`encoder_network`; or the device cannot be used.
    """
    network = efficientnet_lite()
    network.add_module("_fc", nn.Identity())  # in place of the classifier, which nothing asks
    load_weights(network, weights)
    return _forward(network, lambda images: network.extract_features(images).mean((2, 3)), device, threads)


def encoder_network(weights: Path, encoder: EncoderDescription) -> tuple[nn.Module, Callable[[Tensor], Tensor]]:
    """An encoder's network, and what gives its raw output: a vector an image, all positions, or its last maps.

    Raises:
        CheckpointError: the weights are damaged, or are another architecture's.
        SettingError: the package that has the architecture is not installed.
    """
    if encoder.kind == "transformers":
        return transformers_network(weights)
    if encoder.kind == "timm":
        network = timm_network(encoder.architecture)
        load_weights(network, weights)
        return network, network
    network = efficientnet_lite()
    load_weights(network, weights)
    return network, network.extract_features


class PooledNetwork(nn.Module):
    """One vector an image: :func:`model.encoders.loading.pool` in torch."""

    def __init__(self, network: nn.Module, output: Callable[[Tensor], Tensor], pooling: Pooling) -> None:
        super().__init__()
        self._network, self._output, self._pooling = network, output, pooling

    def forward(self, images: Tensor) -> Tensor:
        """``(n, channels, size, size)`` in, ``(n, values)`` out."""
        raw = self._output(images)
        if raw.ndim == 2:
            return raw
        positions = raw.flatten(2).transpose(1, 2) if raw.ndim == 4 else raw
        return positions.mean(1) if self._pooling == "mean" else positions[:, 0]


def timm_network(architecture: str) -> Any:
    """A network of timm by its name, its weights at random, without its classifier.

    Raises:
        SettingError: timm is not installed.
        CheckpointError: it has no such architecture.
    """
    timm = import_timm()
    if not timm.is_model(architecture):
        raise CheckpointError(f"timm {timm.__version__} has no architecture {architecture!r}: see timm.list_models()")
    return timm.create_model(architecture, pretrained=False, num_classes=0)


def import_timm() -> Any:
    """The package timm.

    Raises:
        SettingError: it is not installed.
    """
    if not find_spec("timm"):
        raise not_installed("timm", "timm")
    declare_torchvision_operators()
    return import_module("timm")


def transformers_network(folder: Path) -> tuple[Any, Callable[[Tensor], Tensor]]:
    """The model in a local folder, and what gives its feature: an image embedding, the pooled output, or all positions.

    A pooling layer that the folder has no weights for is passed over: transformers would make some up.

    Raises:
        SettingError: transformers is not installed.
        CheckpointError: the folder holds no model that it loads, only pickle, or not all of its weights.
    """
    if not find_spec("transformers"):
        raise not_installed("transformers", "transformers")
    declare_torchvision_operators()
    from transformers import AutoModel
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()  # type: ignore[no-untyped-call] # its own, on the terminal; untyped there
    try:
        network, info = AutoModel.from_pretrained(
            folder, local_files_only=True, trust_remote_code=False, use_safetensors=True, output_loading_info=True
        )
    except Exception as error:  # it raises OSError, ValueError, ImportError and what its parsers do
        said = str(error).strip().splitlines()[0][:200]
        raise CheckpointError(f"{folder} is no model that transformers loads from safetensors here: {said}") from error
    lacking = sorted(info["missing_keys"])
    if made_up := [name for name in lacking if not name.startswith("pooler.")]:
        raise CheckpointError(f"{folder} lacks {len(made_up)} of its model's weights, {made_up[0]} among them")
    return network, _transformers_output(network, pooled=not lacking)


def _transformers_output(network: Any, *, pooled: bool) -> Callable[[Tensor], Tensor]:
    if hasattr(network, "get_image_features"):  # of a model for pictures and texts

        def embedding(images: Tensor) -> Tensor:
            output = network.get_image_features(pixel_values=images)
            return output if isinstance(output, Tensor) else output.pooler_output

        return embedding

    def output(images: Tensor) -> Tensor:
        outputs = network(pixel_values=images)
        found = getattr(outputs, "pooler_output", None) if pooled else None
        positions: Tensor = outputs.last_hidden_state
        return positions if found is None else found.flatten(1)

    return output


def efficientnet_lite() -> Any:
    """EfficientNet-Lite0 (Tan and Le 2019; Google 2020), its weights at random.

    Raises:
        SettingError: its package is not installed.
    """
    if not find_spec("efficientnet_lite_pytorch"):
        raise not_installed("efficientnet-lite-pytorch", "imagenet")
    return import_module("efficientnet_lite_pytorch").EfficientNet.from_name(EFFICIENTNET_LITE)


def load_weights(network: nn.Module, path: Path) -> None:
    """Load all of a network's weights from safetensors; those of a classifier that it lacks are passed over.

    Raises:
        CheckpointError: the file is damaged, or lacks some.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        lacking = network.load_state_dict(load_file(path), strict=False).missing_keys
    except (SafetensorError, RuntimeError, OSError) as error:
        said = str(error).strip().splitlines()[-1].strip()[:200]
        raise CheckpointError(f"{path} does not hold this architecture's weights: {said}") from error
    if lacking := [name for name in lacking if not name.endswith("num_batches_tracked")]:
        raise CheckpointError(f"{path} lacks {len(lacking)} of this architecture's weights, {lacking[0]} among them")


def _forward(network: nn.Module, output: Callable[[Tensor], Tensor], device: str, threads: int | None) -> Forward:
    if threads:
        torch.set_num_threads(threads)
    to_device(network.eval().requires_grad_(False), device)

    at_once = CPU_BATCH if device == "cpu" else None

    @torch.inference_mode()
    def forward(images: Array) -> Array:
        pixels = torch.from_numpy(images).to(device, memory_format=torch.channels_last)
        step = at_once or max(1, len(pixels))
        parts = [output(pixels[start : start + step]).float().cpu() for start in range(0, len(pixels), step)]
        features: Array = torch.cat(parts).numpy()
        return features

    return forward
