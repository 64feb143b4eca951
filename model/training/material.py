"""What an epoch draws its updates from: images, their sources, and what a teacher says of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from model.training.distillation import Lesson
from model.training.loading import LabelledFrames
from model.training.recipes import Recipe
from model.training.repository import LabelledFile
from model.training.sampling import BalancedBatches


def sources_of(files: Sequence[LabelledFile], frames: LabelledFrames) -> NDArray[np.int64]:
    """``(n,)`` number of the source of each frame; a file without one stands for its group."""
    names = np.array([files[place].source or files[place].group for place in frames.files.tolist()])
    return np.asarray(np.unique(names, return_inverse=True)[1], np.int64)


@dataclass(frozen=True, slots=True)
class Batch:
    """The images of one update, ``(n, 256, 256)`` uint8, their classes, sources and taught features, by row."""

    images: NDArray[np.uint8]
    labels: NDArray[np.int64]
    sources: NDArray[np.int64]
    taught: NDArray[np.float16] | None


@dataclass(frozen=True, slots=True)
class Material:
    """The training part.

    Attributes:
        frames: its images.
        sources: ``(n,)`` int64, number of what each comes from.
        taught: ``(n, values)`` float16, a teacher's features, if there is one.
    """

    frames: LabelledFrames
    sources: NDArray[np.int64]
    taught: NDArray[np.float16] | None = None

    @classmethod
    def of(cls, files: Sequence[LabelledFile], frames: LabelledFrames, lesson: Lesson | None) -> Self:
        """The training part ``frames`` of ``files``; a file without a source stands for its group."""
        return cls(frames, sources_of(files, frames), lesson.features if lesson else None)

    def batches(self, recipe: Recipe, random: np.random.Generator, updates: int) -> list[NDArray[np.int64]]:
        """Positions of the images of each update of an epoch."""
        if recipe.across_sources:
            drawing = BalancedBatches(self.frames.labels, self.sources, recipe.batch_size)
            return [drawing.draw(random) for _ in range(updates)]
        # In equal parts: a last batch of one image has no variance to normalise by.
        return np.array_split(random.permutation(len(self.frames)), updates)

    def batch(self, chosen: NDArray[np.int64]) -> Batch:
        """The images at these positions, in their order on disk."""
        places = np.sort(chosen)
        frames = self.frames
        taught = None if self.taught is None else self.taught[places]
        return Batch(frames.images[places], frames.labels[places], self.sources[places], taught)
