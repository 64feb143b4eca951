"""Moving a network to the device on which it computes."""

from __future__ import annotations

import torch

from model.errors import SettingError
from model.network.architecture import OrganNetwork


def to_device(network: OrganNetwork, device: str) -> OrganNetwork:
    """The network on ``device``, its convolutions' weights channels last, which is faster on CPUs and GPUs alike.

    Raises:
        SettingError: the device is unknown or cannot be used here.
    """
    try:
        return network.to(torch.device(device), memory_format=torch.channels_last)  # type: ignore[call-overload,no-any-return] # absent in stubs
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise SettingError(f"device {device!r} cannot be used here: {reason}") from error
