"""Networks as ONNX files: that of the paper for other programs, and encoders for ONNX Runtime and OpenVINO."""

from __future__ import annotations

import shutil
import warnings
from collections.abc import Sequence
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Final

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from model.encoders.loading import not_installed
from model.encoders.torch_networks import PooledNetwork, encoder_network
from model.encoders.torchvision_operators import declare_torchvision_operators
from model.errors import CheckpointError, SettingError
from model.files import folder_made_whole, written_whole
from model.network.architecture import OrganNetwork
from model.network.checkpoint import load_network
from model.network.encoder import CARD, EncoderDescription, read_encoder, write_encoder
from model.network.heads import head_path, load_head, own_heads, save_head
from model.network.preprocessing import INPUT
from model.network.probe import has_probe, load_probe, probe_path, save_probe

ON_GPUS: Final = "on_gpus.safetensors"


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


def export_encoder(folder: Path, target: Path, *, half: bool) -> EncoderDescription:
    """Make a folder of an encoder that torch runs, in which it is an ONNX file: several times as fast on processors.

    Its heads and its probe come along, fitted on features that differ by no more than arithmetic does.
    EfficientNet-Lite keeps its weights for torch beside, without its classifier, for GPUs where ONNX Runtime has none.

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
    pooled, name = PooledNetwork(network, output, encoder.pooling), "encoder.onnx"
    described = replace(encoder, kind="onnx", weights=name, architecture="", output=encoder.layer, pooling="none")
    try:
        with folder_made_whole(target) as partial:
            write_onnx(pooled, torch.zeros(2, channels, side, side), partial / name, [encoder.layer])
            if half:
                halve_weights(partial / name)
            if encoder.kind == "efficientnet-lite":
                described = replace(described, on_gpus=ON_GPUS)
                _write_for_gpus(network, partial / ON_GPUS, half=half)
            for card in folder.glob(CARD):
                shutil.copyfile(card, partial / CARD)
            written = write_encoder(partial, described)
            _bring_along(folder, partial, written.fingerprint)
            return written
    except OSError as error:
        raise CheckpointError(f"{target} cannot be written: {error.strerror or error}") from error


def _write_for_gpus(network: nn.Module, path: Path, *, half: bool) -> None:
    weights = {name: one for name, one in network.state_dict().items() if not name.startswith("_fc.")}
    save_file({name: one.half() if half and one.ndim > 1 else one for name, one in weights.items()}, path)


def _bring_along(folder: Path, target: Path, fingerprint: str) -> None:
    """Write the heads and the probe of a model beside another one, whose features are the same."""
    heads = {}
    for name in own_heads(folder):
        head = load_head(folder, name)
        described = replace(head.description, model=fingerprint, fingerprint="")
        heads[name] = save_head(head_path(target, name), replace(head, description=described)).fingerprint
    if has_probe(folder):
        probe = load_probe(folder)
        behind = heads[probe.description.layer] if probe.description.head else ""
        of_target = replace(probe.description, model=fingerprint, head=behind, fingerprint="")
        save_probe(probe_path(target), replace(probe, description=of_target))


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
