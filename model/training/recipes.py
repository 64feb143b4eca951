"""Training recipes: ``paper``, to the letter of section 3.1.2; ``fast``, ``thorough``, ``fine-tune``, ``scanners``."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final, Literal, get_args

from model.errors import SettingError
from model.network.preprocessing import INPUT

Precision = Literal["float32", "bfloat16"]
"""``bfloat16`` is faster where the processor has instructions for it: GPUs, and CPUs with AMX."""


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
        initialisation: see :func:`model.network.architecture.initialise`.
        label_smoothing: share of the target spread over all classes.
        augment: random views (:mod:`model.training.augmentation`), else the centre crop.
        normalise: batch normalisation while training, folded into the weights afterwards.
        contrastive: weight of the supervised contrastive loss on FCL1 (:mod:`model.training.contrastive`).
        across_sources: classes and their sources are drawn evenly (:mod:`model.training.sampling`), images are degraded
            as theirs are (:mod:`model.training.degradations`), and the contrastive loss draws sources together.
        distillation: weight of learning from a teacher, where there is one (:mod:`model.training.distillation`).
        clip: largest norm of the gradient of an update; 0: any.
        sizes: side of the training images in pixels, each with the share of the training at which it begins: smaller
            images cost less, and most can be learned from them.
        precision: of the multiplications while training (autocast); weights and losses are float32 either way.
    """

    name: str
    epochs: int
    batch_size: int
    optimizer: Literal["sgd", "adamw"]
    learning_rate: float
    schedule: Literal["constant", "one-cycle"]
    weight_decay: float
    initialisation: Literal["paper", "he"]
    label_smoothing: float
    augment: bool
    normalise: bool
    contrastive: float
    sizes: tuple[tuple[float, int], ...]
    precision: Precision = "float32"
    across_sources: bool = False
    distillation: float = 0.0
    clip: float = 0.0

    def size_at(self, epoch: int) -> int:
        """Side of the training images in an epoch, from 0; the last one always has the network's own size."""
        progress = 1.0 if epoch + 1 >= self.epochs else epoch / self.epochs
        return [size for start, size in self.sizes if start <= progress][-1]


PAPER: Final = Recipe(
    name="paper",
    epochs=30,
    batch_size=1,
    optimizer="sgd",
    learning_rate=1e-4,
    schedule="constant",
    weight_decay=0.0,
    initialisation="paper",
    label_smoothing=0.0,
    augment=False,
    normalise=False,
    contrastive=0.0,
    sizes=((0.0, INPUT),),
)

FAST: Final = Recipe(
    name="fast",
    epochs=26,
    batch_size=64,
    optimizer="adamw",
    learning_rate=5e-4,
    schedule="one-cycle",
    weight_decay=0.01,
    initialisation="he",
    label_smoothing=0.0,
    augment=True,
    normalise=True,
    contrastive=0.5,
    sizes=((0.0, 128), (0.45, 160), (0.75, INPUT)),
)

THOROUGH: Final = replace(FAST, name="thorough", epochs=60)

FINE_TUNE: Final = replace(FAST, name="fine-tune", epochs=8, learning_rate=1e-4, normalise=False, sizes=((0.0, INPUT),))
"""For a trained network, whose batch normalisation is folded into its weights: it has none any more."""

SCANNERS: Final = replace(
    FAST,
    name="scanners",
    epochs=40,
    batch_size=128,
    sizes=((0.0, 112), (0.7, 160), (0.9, INPUT)),
    across_sources=True,
    distillation=1.0,
    learning_rate=2.5e-4,
    clip=1.0,
)
"""For a model that is to hold on archives that nobody chose: repositories of many sources, and a teacher."""

RECIPES: Final = {one.name: one for one in (PAPER, FAST, THOROUGH, FINE_TUNE, SCANNERS)}


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


def with_precision(recipe: Recipe, precision: str) -> Recipe:
    """The recipe in that precision.

    Raises:
        SettingError: there is no such precision.
    """
    for one in get_args(Precision):
        if one == precision:
            return replace(recipe, precision=one)
    raise SettingError(f"there is no precision {precision!r}: choose one of {', '.join(get_args(Precision))}")
