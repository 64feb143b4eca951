"""Training recipes: ``paper``, to the letter of its section 3.1.2, and ``fast``, the default."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from model.errors import SettingError


@dataclass(frozen=True, slots=True)
class Recipe:
    """Everything that decides how a network is trained, but for the data and the seed.

    Attributes:
        epochs: passes over the training images.
        batch_size: images an update.
        optimizer: ``sgd`` without momentum, or ``adamw``.
        learning_rate: the constant rate, or the peak of a one-cycle schedule.
        schedule: ``constant`` or ``one-cycle`` (Smith 2018), over all updates.
        weight_decay: decoupled with ``adamw``.
        initialisation: see :func:`model.network.initialise`.
        augment: random horizontal flips and shifts of up to 16 pixels (any crop of the resized image), else the
            centre crop.
        label_smoothing: share of the target spread over all classes.
    """

    name: str
    epochs: int
    batch_size: int
    optimizer: Literal["sgd", "adamw"]
    learning_rate: float
    schedule: Literal["constant", "one-cycle"]
    weight_decay: float
    initialisation: Literal["paper", "he"]
    augment: bool
    label_smoothing: float


RECIPES = {
    recipe.name: recipe
    for recipe in (
        Recipe(
            name="paper",
            epochs=30,
            batch_size=1,
            optimizer="sgd",
            learning_rate=1e-4,
            schedule="constant",
            weight_decay=0.0,
            initialisation="paper",
            augment=False,
            label_smoothing=0.0,
        ),
        Recipe(
            name="fast",
            epochs=8,
            batch_size=32,
            optimizer="adamw",
            learning_rate=2e-4,
            schedule="one-cycle",
            weight_decay=0.01,
            initialisation="he",
            augment=True,
            label_smoothing=0.0,
        ),
    )
}


def recipe(name: str, *, epochs: int | None = None) -> Recipe:
    """The recipe of that name, with another number of epochs if given.

    Raises:
        SettingError: there is no such recipe, or the number of epochs is not positive.
    """
    if name not in RECIPES:
        raise SettingError(f"there is no recipe {name!r}: choose one of {', '.join(RECIPES)}")
    if epochs is None:
        return RECIPES[name]
    if epochs < 1:
        raise SettingError(f"{epochs} epochs cannot be trained: give at least 1")
    return replace(RECIPES[name], epochs=epochs)
