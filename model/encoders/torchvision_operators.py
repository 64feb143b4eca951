"""torchvision beside a torch that it was not built for.

timm, transformers and the ONNX exporter import it where it is installed. PyPI's build of it, for CUDA, cannot load its
operators beside a torch for processors, and its import then ends with an error at those that it would describe. No
encoder uses these, so they are declared, without anything that computes them.
"""

from __future__ import annotations

from functools import cache
from importlib.util import find_spec
from typing import Final

import torch

_OPERATORS: Final = ("nms", "qnms")

_library: Final = torch.library.Library("torchvision", "FRAGMENT")  # type: ignore[no-untyped-call] # untyped in torch


@cache
def declare_torchvision_operators() -> None:
    """Let torchvision be imported; where its own operators load, nothing is done."""
    if torch.cuda.is_available() or not find_spec("torchvision"):
        return
    for operator in _OPERATORS:
        if not hasattr(torch.ops.torchvision, operator):
            signature = f"{operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
            _library.define(signature)  # type: ignore[no-untyped-call] # as above
