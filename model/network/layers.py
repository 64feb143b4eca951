"""The fully connected layers whose outputs are features: names and sizes, for those who need no torch."""

from __future__ import annotations

from typing import Final, Literal, get_args

LayerName = Literal["fcl1", "fcl2", "fcl3"]
"""A fully connected layer whose output, after ReLU, is a feature: F1, F2, F3 of the paper."""

LAYERS: Final[tuple[LayerName, ...]] = get_args(LayerName)

FEATURES: Final = 4096
"""Length of each feature vector; all of its values are non-negative."""
