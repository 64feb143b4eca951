"""Splits that keep whole sources together: what a hospital or a data set gave is trained or measured, never both.

Images of one source are alike by more than what they show: by its scanner, its window, its compression. A figure
measured on other images of the sources that were trained says nothing of the next archive.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import replace
from random import Random
from typing import Literal

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from model.errors import RepositoryError, SettingError
from model.training.repository import TEST_SHARE, VALIDATION_SHARE, LabelledFile, Split

SplitBy = Literal["group", "source"]
"""What is kept on one side of a split: a patient, or all that comes from one hospital or data set."""

LEAST_SOURCES = 3
"""Of a class of fewer no source is held out for its own sake."""

MOST_HELD_OUT = 0.5
"""Largest share of a class that is held out with its sources."""


def split_by_source(
    files: Sequence[LabelledFile], *, seed: int, validation: float = VALIDATION_SHARE, keep_test: bool = False
) -> list[LabelledFile]:
    """Hold whole sources out for the test, and of the others some for validation; given splits are not looked at.

    Where no class has sources enough for both there is no validation part, and a training keeps its last epoch.

    Args:
        files: each with its source.
        seed: of the choice.
        validation: share of the training part.
        keep_test: where the manifest names a test part, that is the test, and no source is held out for it.

    Raises:
        RepositoryError: as :func:`hold_sources_out`.
    """
    if keep_test and any(file.split == "test" for file in files):
        held = [replace(file, split="test" if file.split == "test" else "train") for file in files]
    else:
        held = hold_sources_out(files, "test", TEST_SHARE, seed=seed)
    test = [file for file in held if file.split == "test"]
    training = [file for file in held if file.split == "train"]
    if validation and _Sources(training).large_classes():
        training = hold_sources_out(training, "validation", validation, seed=seed)
    return sorted(training + test, key=lambda file: file.path)


def hold_sources_out(files: Sequence[LabelledFile], part: Split, share: float, *, seed: int) -> list[LabelledFile]:
    """Move whole sources to ``part`` until it has about ``share`` of every class of three sources or more.

    No class loses more than half of its images, or its last two sources: what cannot be held out without that stays.

    Raises:
        RepositoryError: a file has no source, or no class has three.
    """
    _require_sources(files)
    joined = _joined_by_groups(files)
    sources = _Sources(joined)
    if not sources.large_classes():
        raise RepositoryError(f"no class has {LEAST_SOURCES} sources: none can be held out, split by group instead")
    random = Random(seed)  # noqa: S311 (no secret)
    for label in sources.large_classes():
        order = random.sample(sorted(sources.of_class[label]), len(sources.of_class[label]))
        # Sources are of all sizes: one that would take too much goes only where no other will do.
        sources.hold_out(label, order, enough=share, most=min(2 * share, MOST_HELD_OUT))
        sources.hold_out(label, order, enough=0.0, most=MOST_HELD_OUT)
    sides: list[Split] = [part if one.source in sources.chosen else "train" for one in joined]
    return [replace(file, split=side) for file, side in zip(files, sides, strict=True)]


def folds_by_source(files: Sequence[LabelledFile], folds: int, *, seed: int) -> list[set[int]]:
    """Positions of the files of each fold, whole sources at a time, each class over as many folds as it has sources.

    The only source of a class is in no fold: it is always trained.

    Raises:
        RepositoryError: a file has no source, fewer sources than folds can be held out, or a fold would hold all
            sources of a class.
        SettingError: fewer than two folds are asked for.
    """
    if folds < 2:
        raise SettingError(f"{folds} folds cannot be made: give at least 2")
    _require_sources(files)
    files = _joined_by_groups(files)
    of_source: dict[str, Counter[str]] = defaultdict(Counter)
    of_class: dict[str, set[str]] = defaultdict(set)
    for file in files:
        of_source[file.source][file.label] += 1
        of_class[file.label].add(file.source)
    alone = {source for sources in of_class.values() if len(sources) == 1 for source in sources}
    order = sorted(of_source.keys() - alone)
    if len(order) < folds:
        raise RepositoryError(f"{len(order)} sources can be held out, which is too few for {folds} folds")
    Random(seed).shuffle(order)  # noqa: S311 (no secret)
    order.sort(key=lambda source: -of_source[source].total())
    fold_of: dict[str, int] = {}
    images, sources = Counter[tuple[int, str]](), Counter[tuple[int, str]]()
    for source in order:
        labels = of_source[source]

        def cost(fold: int, labels: Counter[str] = labels) -> tuple[bool, float]:
            # Never the last source of a class beside all of its others.
            empties = any(sources[fold, label] == len(of_class[label]) - 1 for label in labels)
            return empties, sum(images[fold, label] * count for label, count in labels.items())

        fold = min(range(folds), key=cost)
        fold_of[source] = fold
        images.update({(fold, label): count for label, count in labels.items()})
        sources.update((fold, label) for label in labels)
    for label, of in of_class.items():
        if len(of - alone) == len(of) and len({fold_of[source] for source in of}) == 1:
            raise RepositoryError(f"all sources of class {label!r} would be in one fold: give another seed or number")
    return [{n for n, file in enumerate(files) if fold_of.get(file.source) == fold} for fold in range(folds)]


def _joined_by_groups(files: Sequence[LabelledFile]) -> list[LabelledFile]:
    """The files, sources that share a group under one name: a patient who was in two hospitals joins them."""
    numbers: dict[str, int] = {}
    pairs = [
        (numbers.setdefault(f"s{f.source}", len(numbers)), numbers.setdefault(f"g{f.group}", len(numbers)))
        for f in files
    ]
    rows, columns = zip(*pairs, strict=True) if pairs else ((), ())
    graph = coo_array((np.ones(len(pairs)), (rows, columns)), shape=(len(numbers), len(numbers)))
    parts = connected_components(graph, directed=False)[1]
    return [replace(file, source=str(parts[row])) for file, row in zip(files, rows, strict=True)]


def _require_sources(files: Sequence[LabelledFile]) -> None:
    if missing := [file for file in files if not file.source]:
        raise RepositoryError(f"{missing[0].path} has no source: the manifest needs a column source or upstream")


class _Sources:
    """Which sources have how many images of which class, and which of them are held out."""

    def __init__(self, files: Sequence[LabelledFile]) -> None:
        self.of_class: dict[str, Counter[str]] = defaultdict(Counter)
        self._classes: dict[str, set[str]] = defaultdict(set)
        self.chosen: set[str] = set()
        for file in files:
            self.of_class[file.label][file.source] += 1
            self._classes[file.source].add(file.label)

    def large_classes(self) -> list[str]:
        """Those of enough sources, the one with the fewest images first."""
        large = [label for label, counts in self.of_class.items() if len(counts) >= LEAST_SOURCES]
        return sorted(large, key=lambda label: (self.of_class[label].total(), label))

    def hold_out(self, label: str, order: Sequence[str], *, enough: float, most: float) -> None:
        """Choose sources until more than the share ``enough`` of the class is held out, never more than ``most``."""
        for source in order:
            if self._share_without(label, self.chosen) > enough:
                return
            if all(self._may_go(source, other, most) for other in self._classes[source]):
                self.chosen.add(source)

    def _may_go(self, source: str, label: str, most: float) -> bool:
        counts, gone = self.of_class[label], self.chosen | {source}
        left = len(counts.keys() - gone)
        if len(counts) < LEAST_SOURCES:
            return left > 0
        return left >= LEAST_SOURCES - 1 and self._share_without(label, gone) <= most

    def _share_without(self, label: str, gone: set[str]) -> float:
        counts = self.of_class[label]
        return sum(counts[name] for name in gone) / counts.total()
