"""Compressed checkpoints: low-rank factors of the fully connected layers, and 8-bit integers for every weight.

Only numpy: what reads such a checkpoint need not know torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]
Stored = NDArray[np.int8] | NDArray[np.float32]

LEVELS: Final = 127
"""Largest magnitude of a stored integer; symmetric, so that 0 stays 0."""

_SCALE = ".scale"
_LEFT, _RIGHT = ".left", ".right"


def quantise(weights: Array) -> tuple[NDArray[np.int8], Array]:
    """Integers, and a scale for each row (output channel): ``weights ≈ integers · scale``.

    Args:
        weights: ``(n, …)``.

    Returns:
        ``(n, …)`` int8 and ``(n,)`` float32.
    """
    rows = weights.reshape(len(weights), -1)
    scale = np.maximum(np.abs(rows).max(axis=1), np.finfo(np.float32).tiny) / LEVELS
    integers = np.rint(rows / scale[:, None]).astype(np.int8)
    return integers.reshape(weights.shape), scale.astype(np.float32)


def compress(weights: Mapping[str, Array], factors: Mapping[str, tuple[Array, Array]]) -> dict[str, Stored]:
    """What is stored of a network.

    Args:
        weights: all of the network's weights and biases; biases are kept as they are.
        factors: of some weights ``(out, in)``, by name, their factors ``(out, rank)`` and ``(rank, in)``.
    """
    stored: dict[str, Stored] = {}
    for name, values in weights.items():
        if name in factors:
            parts = {name + _LEFT: factors[name][0], name + _RIGHT: factors[name][1]}
        elif values.ndim > 1:
            parts = {name: values}
        else:
            stored[name] = values
            continue
        for part, matrix in parts.items():
            stored[part], stored[part + _SCALE] = quantise(matrix)
    return stored


def factors_of(stored: Mapping[str, Stored]) -> dict[str, tuple[Array, ...]]:
    """By the network's names, each weight as the float32 matrices whose product it is: one, or two factors."""
    plain = {
        name: _restore(values, stored.get(name + _SCALE))
        for name, values in stored.items()
        if not name.endswith(_SCALE)
    }
    factors: dict[str, tuple[Array, ...]] = {}
    for name, values in plain.items():
        if name.endswith(_LEFT):
            whole = name.removesuffix(_LEFT)
            factors[whole] = (values, plain[whole + _RIGHT])
        elif not name.endswith(_RIGHT):
            factors[name] = (values,)
    return factors


def expand(stored: Mapping[str, Stored]) -> dict[str, Array]:
    """The ordinary network's weights and biases, float32."""
    return {name: parts[0] if len(parts) == 1 else parts[0] @ parts[1] for name, parts in factors_of(stored).items()}


def _restore(values: Stored, scale: Stored | None) -> Array:
    restored = values.astype(np.float32)
    return restored if scale is None else restored * scale.reshape(-1, *[1] * (values.ndim - 1))
