"""ONNX files, by ONNX Runtime where it is installed, else by OpenVINO."""

from __future__ import annotations

import os
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from model.encoders.loading import Array, Forward, not_installed
from model.errors import CheckpointError, SettingError
from model.network.encoder import EncoderDescription

if TYPE_CHECKING:
    import openvino


@dataclass(frozen=True, slots=True)
class Tensor:
    """An input or output of an ONNX file: its name, its shape (``None`` where any size goes) and its type."""

    name: str
    shape: tuple[int | None, ...]
    type: str


def look_into(path: Path) -> tuple[list[Tensor], list[Tensor]]:
    """Inputs and outputs of an ONNX file.

    Raises:
        CheckpointError: it is none, or is damaged.
        SettingError: neither ONNX Runtime nor OpenVINO is installed.
    """
    if find_spec("onnxruntime"):
        session = _session(path, "cpu", None)
        return [_of_session(one) for one in session.get_inputs()], [_of_session(one) for one in session.get_outputs()]
    network = _read(path)
    return [_of_openvino(one) for one in network.inputs], [_of_openvino(one) for one in network.outputs]


def load_onnx(path: Path, encoder: EncoderDescription, *, device: str, threads: int | None) -> Forward:
    """The network of an ONNX file.

    Raises:
        CheckpointError: it is damaged, or does not run here.
        SettingError: nothing that runs it is installed, or not on this device.
    """
    if find_spec("onnxruntime"):
        session = _session(path, device, threads)
        name = session.get_inputs()[0].name

        def run(images: Array) -> Array:
            return np.asarray(session.run([encoder.output], {name: _laid_out(images, encoder)})[0], np.float32)

        return run
    if device != "cpu":
        raise SettingError(f"OpenVINO computes on processors only, not on {device}: pip install onnxruntime-gpu")
    import openvino

    settings = {"INFERENCE_NUM_THREADS": threads or os.cpu_count() or 1, "INFERENCE_PRECISION_HINT": "f32"}
    compiled = openvino.Core().compile_model(_read(path), "CPU", settings)
    request = compiled.create_infer_request()

    def infer(images: Array) -> Array:
        return np.array(request.infer([_laid_out(images, encoder)])[compiled.output(encoder.output)], np.float32)

    return infer


def _laid_out(images: Array, encoder: EncoderDescription) -> Array:
    return np.ascontiguousarray(np.moveaxis(images, 1, -1)) if encoder.channels_last else images


def _session(path: Path, device: str, threads: int | None) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads or os.cpu_count() or 1
    options.log_severity_level = 3
    # Its threads would keep the cores busy while they wait, which others of this process and machine need.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    providers = ["CPUExecutionProvider"]
    if device != "cpu":
        if "CUDAExecutionProvider" not in onnxruntime.get_available_providers():
            raise SettingError(f"this ONNX Runtime does not compute on {device}: pip install onnxruntime-gpu")
        providers.insert(0, "CUDAExecutionProvider")
    try:
        return onnxruntime.InferenceSession(path, options, providers)
    except Exception as error:  # it raises classes of its own that share only this one
        raise CheckpointError(f"{path} is no ONNX file, or does not run here: {_first_line(error)}") from error


def _read(path: Path) -> openvino.Model:
    if not find_spec("openvino"):
        raise not_installed("ONNX Runtime", "onnx")
    import openvino

    try:
        return openvino.Core().read_model(path)
    except RuntimeError as error:
        raise CheckpointError(f"{path} is no ONNX file, or does not run here: {_first_line(error)}") from error


def _of_session(value: Any) -> Tensor:
    shape = tuple(size if isinstance(size, int) else None for size in value.shape)
    return Tensor(value.name, shape, value.type.removeprefix("tensor(").removesuffix(")"))


def _of_openvino(value: Any) -> Tensor:
    shape = tuple(size.get_length() if size.is_static else None for size in value.partial_shape)
    kind = {"f32": "float", "f16": "float16", "u8": "uint8"}.get(value.element_type.get_type_name(), "another")
    return Tensor(value.any_name, shape, kind)


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0][:200]
