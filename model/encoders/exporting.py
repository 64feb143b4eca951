"""The network of the paper as an ONNX file, for other programs."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

import torch
from torch import Tensor, nn

from model.encoders.loading import not_installed
from model.encoders.torchvision_operators import declare_torchvision_operators
from model.errors import CheckpointError
from model.files import written_whole
from model.network.architecture import OrganNetwork
from model.network.checkpoint import load_network
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
