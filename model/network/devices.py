"""Moving a network to the device on which it computes."""

from __future__ import annotations

from typing import TypeVar

import torch
from torch import nn

from model.errors import SettingError

Network = TypeVar("Network", bound=nn.Module)


def to_device(network: Network, device: str) -> Network:
    """The network on ``device``, its convolutions' weights channels last, which is faster on CPUs and GPUs alike.

    Raises:
        SettingError: the device is unknown or cannot be used here.
    """
    try:
        return network.to(torch.device(device), memory_format=torch.channels_last)  # type: ignore[call-overload,no-any-return] # absent in stubs
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise SettingError(f"device {device!r} cannot be used here: {reason}") from error
