"""The fully connected layers whose outputs are features: names and sizes, for those who need no torch."""

from __future__ import annotations

from typing import Final, Literal, get_args

LayerName = Literal["fcl1", "fcl2", "fcl3"]
"""A fully connected layer whose output, after ReLU, is a feature: F1, F2, F3 of the paper."""

LAYERS: Final[tuple[LayerName, ...]] = get_args(LayerName)

FEATURES: Final = 4096
"""Width of the paper's fully connected layers, and so the length of each feature; none of its values is negative.

A network may be trained with another width: its checkpoint says which.
"""

LEAST_WIDTH: Final = 32
MOST_WIDTH: Final = 8192


def layer_widths(width: int) -> dict[str, int]:
    """How many values each layer of a network of that width gives, by its name."""
    return dict.fromkeys(LAYERS, width)
