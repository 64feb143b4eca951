"""What can compute the network, and whether it can here; known before anything of it is imported."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Final, Literal, get_args

from model.errors import CheckpointError, SettingError
from model.network.metadata import Metadata

Runtime = Literal["torch", "openvino", "openvino-int8"]
"""What computes the network: torch, or OpenVINO in float32 or 8-bit integers, on processors only.

Features of one model by any of them belong into one index. OpenVINO's in float32 are torch's but for rounding; in
integers they are nearly so: the largest difference is of a few hundredths of the largest feature.
"""


AUTO: Final = "auto"
"""In place of a runtime's name: the quickest that gives torch's features but for rounding."""


def choose_runtime(runtime: str, metadata: Metadata, device: str = "cpu") -> str:
    """The runtime of that name; for :data:`AUTO` OpenVINO in float32 where it is installed and can compute the model.

    Of a joined model it computes the checkpoints; encoders run as they are.

    OpenVINO starts three times as fast, as nothing of torch is imported.
    """
    if runtime != AUTO:
        return runtime
    ours = any(not one.encoder for one in metadata.members.values() or (metadata,))
    return "openvino" if ours and device == "cpu" and find_spec("openvino") else "torch"


def require_runtime(runtime: str, path: Path, metadata: Metadata) -> None:
    """Refuse a runtime that cannot compute a checkpoint's network here, before anything is started for it.

    Raises:
        SettingError: there is no such runtime, or it is not installed.
        CheckpointError: the checkpoint does not say how large its activations grow, without which they cannot be
            integers.
    """
    if runtime not in get_args(Runtime):
        raise SettingError(f"there is no runtime {runtime!r}: choose one of {', '.join(get_args(Runtime))}")
    checkpoints = {name: one for name, one in metadata.members.items() if not one.encoder}
    if checkpoints:
        for name, member in checkpoints.items():
            require_runtime(runtime, path / f"{name}.safetensors", member)
        return
    if metadata.members and runtime != "torch":
        raise SettingError(f"--runtime {runtime}: the models of {path} are run as what they are: leave it out")
    if metadata.encoder:
        if runtime != "torch":
            raise SettingError(
                f"--runtime {runtime}: {path} is run as what it is ({metadata.encoder.kind}): leave it out"
            )
        return
    if runtime != "torch" and find_spec("openvino") is None:
        raise SettingError("OpenVINO is not installed: pip install 'cbmir[openvino]', or use --runtime torch")
    if runtime == "openvino-int8" and not metadata.ranges:
        raise CheckpointError(
            f"{path} does not say how large its activations grow, as it is older: use --runtime openvino, or train anew"
        )


def computes_on_gpus(metadata: Metadata) -> bool:
    """Whether what is installed computes a model on GPUs.

    An ONNX file needs an ONNX Runtime that was built for them, or weights beside it that torch computes there.
    """
    encoders = [one.encoder for one in metadata.members.values() or (metadata,)]
    by_onnx = [encoder for encoder in encoders if encoder and encoder.kind == "onnx"]
    if all(encoder.on_gpus for encoder in by_onnx) and find_spec("efficientnet_lite_pytorch"):
        return True
    return not by_onnx or onnx_runs_on_gpus()


def onnx_runs_on_gpus() -> bool:
    """Whether the ONNX Runtime that is installed was built for GPUs."""
    if not find_spec("onnxruntime"):
        return False
    from onnxruntime import get_available_providers

    return "CUDAExecutionProvider" in get_available_providers()
