"""Which images make an update: every class as often as the others, and within it every source."""

from __future__ import annotations

from collections import defaultdict

import numpy as np
from numpy.typing import NDArray

OF_A_CLASS = 4
"""Images of a class in one update: each has others of its class, from other sources where there are any."""

EVENNESS = 0.5
"""Power of a class's number of images to which its share is proportional: 0 would be even, 1 as the images are."""


class BalancedBatches:
    """Draws updates class by class, source by source, so that neither a large class nor a large source rules.

    Args:
        labels: ``(n,)`` class of each image.
        sources: ``(n,)`` what each comes from: a hospital, a data set.
        size: images of an update, a multiple of :data:`OF_A_CLASS` at best.
    """

    def __init__(self, labels: NDArray[np.int64], sources: NDArray[np.int64], size: int) -> None:
        found: dict[int, dict[int, list[int]]] = defaultdict(lambda: defaultdict(list))
        for number, (label, source) in enumerate(zip(labels.tolist(), sources.tolist(), strict=True)):
            found[label][source].append(number)
        self._images = {label: [np.array(of) for _, of in sorted(by.items())] for label, by in sorted(found.items())}
        self._labels = list(self._images)
        counts = np.array([sum(map(len, of)) for of in self._images.values()], np.float64)
        self._shares = counts**EVENNESS / (counts**EVENNESS).sum()
        self._classes = min(len(self._labels), max(1, size // OF_A_CLASS))
        self._size = size

    def draw(self, random: np.random.Generator) -> NDArray[np.int64]:
        """Positions of the images of one update, ``(size,)``; small classes may have one twice."""
        chosen = random.choice(len(self._labels), self._classes, replace=False, p=self._shares)
        each = np.full(self._classes, self._size // self._classes)
        each[: self._size % self._classes] += 1
        drawn = [self._of_class(self._labels[label], count, random) for label, count in zip(chosen, each, strict=True)]
        return np.sort(np.concatenate(drawn))

    def _of_class(self, label: int, count: int, random: np.random.Generator) -> NDArray[np.int64]:
        """Images of as many sources as there are, one of each in turn."""
        sources = self._images[label]
        order = random.permutation(len(sources))
        return np.array([random.choice(sources[order[turn % len(order)]]) for turn in range(count)])
