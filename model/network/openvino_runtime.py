"""The same network for OpenVINO, in float32 or in 8-bit integers; no torch is imported."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import openvino
from numpy.typing import NDArray
from openvino import opset13 as ops
from safetensors import SafetensorError
from safetensors.numpy import load_file

from model.errors import CheckpointError
from model.network.checkpoint import CENTROIDS
from model.network.compression import factors_of
from model.network.layers import LAYERS
from model.network.metadata import Metadata, read_metadata

if TYPE_CHECKING:
    from model.network.embedder import Run

Array = NDArray[np.float32]

_CONVOLUTIONS: Final = (
    ("cvl1", 4, 2, True),
    ("cvl2", 1, 2, True),
    ("cvl3", 1, 2, False),
    ("cvl4", 1, 1, False),
    ("cvl5", 1, 1, True),
)
"""Name, stride, padding, and whether a pool follows: see :mod:`model.network.architecture`."""


def load_openvino(path: Path, *, integers: bool, threads: int | None) -> tuple[Run, Metadata]:
    """A checkpoint's network, ready to be run; a compressed one keeps its factors, which are less to read.

    Raises:
        CheckpointError: the file is missing, damaged, or of another version.
    """
    metadata = read_metadata(path)
    try:
        stored = load_file(path)
        stored.pop(CENTROIDS, None)
        network = OpenVinoNetwork(factors_of(stored), metadata.ranges if integers else None, threads)
    except (KeyError, SafetensorError) as error:
        raise CheckpointError(f"{path} does not hold this network's weights: {error}") from error
    return network, metadata


class OpenVinoNetwork:
    """The paper's network, compiled for this machine's processor.

    Args:
        weights: by name, each as the matrices whose product it is.
        ranges: largest activation behind each layer; given, the network computes in 8-bit integers.
        threads: of the processor; by default all.
    """

    def __init__(
        self, weights: Mapping[str, tuple[Array, ...]], ranges: Mapping[str, float] | None, threads: int | None
    ) -> None:
        settings = {
            "INFERENCE_PRECISION_HINT": "f32",  # on some processors the default is bfloat16
            "INFERENCE_NUM_THREADS": threads or os.cpu_count() or 1,
            "PERFORMANCE_HINT": "LATENCY",
        }
        self._compiled = openvino.Core().compile_model(_Graph(weights, ranges).model(), "CPU", settings)
        self._request = self._compiled.create_infer_request()

    def __call__(self, images: NDArray[np.uint8], layers: Sequence[str]) -> tuple[Array, dict[str, Array]]:
        """Run it: see :data:`model.network.embedder.Run`."""
        outputs = self._request.infer([np.ascontiguousarray(images)], share_inputs=True)
        arrays = [np.array(outputs[number], np.float32) for number in range(1 + len(LAYERS))]
        return arrays[0], {layer: values for layer, values in zip(LAYERS, arrays[1:], strict=True) if layer in layers}


class _Graph:
    """Puts the network together; what is named ``integers`` is left as it is where there are no ranges."""

    def __init__(self, weights: Mapping[str, tuple[Array, ...]], ranges: Mapping[str, float] | None) -> None:
        self._weights, self._ranges = weights, ranges

    def model(self) -> Any:
        images = ops.parameter([-1, 224, 224], np.uint8, name="images")
        scaled = ops.divide(ops.subtract(ops.convert(images, "f32"), np.float32(127.5)), np.float32(63.75))
        x = self._integers(ops.unsqueeze(scaled, np.int64(1)), -2.0, 2.0)  # exact: 256 levels of grey
        for name, stride, padding, pooled in _CONVOLUTIONS:
            kernel = self._integer_weights(self._weights[f"convolutional.{name}.weight"][0])
            x = ops.convolution(x, kernel, [stride] * 2, [padding] * 2, [padding] * 2, [1, 1])
            bias = self._weights[f"convolutional.{name}.bias"][0]
            x = ops.relu(ops.add(x, bias.reshape(1, -1, 1, 1)))
            if pooled:
                x = ops.max_pool(x, [2, 2], [1, 1], [0, 0], [0, 0], [3, 3], index_element_type="i64").output(0)
            x = self._activation(x, name)
        x = ops.reshape(x, np.array([0, -1], np.int64), True)
        features = []
        for name in LAYERS:
            features.append(ops.relu(self._linear(x, name)))
            x = self._activation(features[-1], name)
        return openvino.Model([self._linear(x, "output"), *features], [images], "cbmir")

    def _linear(self, x: Any, name: str) -> Any:
        """Of two factors the left one stays in float32: it is small, and what comes between them differs too much."""
        *left, first = self._weights[f"{name}.weight"]
        x = ops.matmul(x, self._integer_weights(first), False, True)
        for matrix in left:
            x = ops.matmul(x, ops.constant(matrix), False, True)
        return ops.add(x, self._weights[f"{name}.bias"][0][None])

    def _activation(self, x: Any, name: str) -> Any:
        return x if self._ranges is None else self._integers(x, 0.0, self._ranges[name])

    def _integers(self, x: Any, low: float, high: float) -> Any:
        if self._ranges is None:
            return x
        bounds = [np.float32(low), np.float32(high)] * 2
        return ops.fake_quantize(x, *bounds, 256)

    def _integer_weights(self, weights: Array) -> Any:
        if self._ranges is None:
            return ops.constant(weights)
        high = np.abs(weights).max(axis=tuple(range(1, weights.ndim)), keepdims=True)
        return ops.fake_quantize(ops.constant(weights), -high, high, -high, high, 255)
