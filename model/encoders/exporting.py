"""Networks as ONNX files: that of the paper for other programs, and encoders for ONNX Runtime and OpenVINO."""

from __future__ import annotations

import shutil
import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from model.encoders.loading import not_installed
from model.encoders.torch_networks import encoder_network
from model.encoders.torchvision_operators import declare_torchvision_operators
from model.errors import CheckpointError, SettingError
from model.files import folder_made_whole, written_whole
from model.network.architecture import OrganNetwork
from model.network.checkpoint import load_network
from model.network.encoder import CARD, EncoderDescription, Pooling, read_encoder, write_encoder
from model.network.preprocessing import INPUT


class _OneLayer(nn.Module):
    def __init__(self, network: OrganNetwork, layer: str) -> None:
        super().__init__()
        self._network, self._layer = network, layer

    def forward(self, images: Tensor) -> Tensor:
        return self._network.features(images, (self._layer,))[1][self._layer]


def export_onnx(model: Path, output: Path, *, layer: str) -> None:
    """Write one layer's feature of a checkpoint as ONNX: ``(n, 1, 224, 224)`` scaled images in, ``(n, width)`` out.

    Raises:
        CheckpointError: the checkpoint cannot be read, or the file not be written.
        SettingError: what writes ONNX is not installed.
    """
    network, _ = load_network(model)
    write_onnx(_OneLayer(network, layer), torch.zeros(2, 1, INPUT, INPUT), output, [layer])


class _Pooled(nn.Module):
    """One vector an image: :func:`model.encoders.loading.pool` in torch."""

    def __init__(self, network: nn.Module, output: Callable[[Tensor], Tensor], pooling: Pooling) -> None:
        super().__init__()
        self._network, self._output, self._pooling = network, output, pooling

    def forward(self, images: Tensor) -> Tensor:
        raw = self._output(images)
        if raw.ndim == 2:
            return raw
        positions = raw.flatten(2).transpose(1, 2) if raw.ndim == 4 else raw
        return positions.mean(1) if self._pooling == "mean" else positions[:, 0]


def export_encoder(folder: Path, target: Path, *, half: bool) -> EncoderDescription:
    """Make a folder of an encoder that torch runs, in which it is an ONNX file: several times as fast on processors.

    Args:
        folder: of the encoder.
        target: to make.
        half: keep the weights in 16 bits; they are computed with in 32.

    Raises:
        CheckpointError: the encoder cannot be read, or the folder not be written.
        SettingError: the folder is there already, the encoder is ONNX already, or a package is not installed.
    """
    encoder = read_encoder(folder)
    if encoder.kind == "onnx":
        raise SettingError(f"{folder} holds an ONNX file already: {encoder.weights}")
    if target.exists():
        raise SettingError(f"{target} is there already: choose another --output")
    network, output = encoder_network(folder / encoder.weights, encoder)
    side, channels = encoder.preparation.size, encoder.preparation.channels
    pooled, name = _Pooled(network, output, encoder.pooling), "encoder.onnx"
    described = replace(encoder, kind="onnx", weights=name, architecture="", output=encoder.layer, pooling="none")
    try:
        with folder_made_whole(target) as partial:
            write_onnx(pooled, torch.zeros(2, channels, side, side), partial / name, [encoder.layer])
            if half:
                halve_weights(partial / name)
            for card in folder.glob(CARD):
                shutil.copyfile(card, partial / CARD)
            return write_encoder(partial, described)
    except OSError as error:
        raise CheckpointError(f"{target} cannot be written: {error.strerror or error}") from error


def halve_weights(path: Path) -> None:
    """Rewrite an ONNX file with its weights in 16 bits, which whoever loads it makes 32 bits of again."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    model = onnx.load(path)
    casts = []
    for weights in model.graph.initializer:
        if weights.data_type == TensorProto.FLOAT and len(weights.dims) > 1:
            name, half = weights.name, f"{weights.name}.half"
            weights.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(weights).astype(np.float16), half))
            casts.append(helper.make_node("Cast", [half], [name], to=TensorProto.FLOAT))
    nodes = [*casts, *model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    onnx.checker.check_model(model)
    onnx.save(model, path)


def write_onnx(
    network: nn.Module, images: Tensor, output: Path, names: Sequence[str], *, any_batch: bool = True
) -> None:
    """Write a network as an ONNX file.

    Args:
        network: in evaluation mode.
        images: an example of what it takes.
        output: the file.
        names: of its outputs.
        any_batch: whether it takes any number of images, or as many as the example has.

    Raises:
        CheckpointError: the file cannot be written.
        SettingError: what writes ONNX is not installed.
    """
    if not (find_spec("onnx") and find_spec("onnxscript")):
        raise not_installed("onnxscript", "onnx")
    declare_torchvision_operators()
    with warnings.catch_warnings():  # of the exporter, of its own older parts
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            network.eval(),
            (images,),
            dynamo=True,
            input_names=["images"],
            output_names=list(names),
            dynamic_shapes=({0: torch.export.Dim("batch")},) if any_batch else None,
            verbose=False,
        )
    assert program is not None  # by the exporter's word, of this way to call it
    try:
        with written_whole(output) as partial:
            program.save(str(partial))
    except OSError as error:
        raise CheckpointError(f"{output} cannot be written: {error.strerror or error}") from error
