"""Splits that keep whole sources together: what a hospital or a data set gave is trained or measured, never both.

Images of one source are alike by more than what they show: by its scanner, its window, its compression. A figure
measured on other images of the sources that were trained says nothing of the next archive.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import replace
from random import Random

from model.errors import RepositoryError
from model.training.repository import TEST_SHARE, VALIDATION_SHARE, LabelledFile, Split

LEAST_SOURCES = 3
"""Of a class of fewer no source is held out for its own sake."""

MOST_HELD_OUT = 0.5
"""Largest share of a class that is held out with its sources."""


def split_by_source(
    files: Sequence[LabelledFile], *, seed: int, validation: float = VALIDATION_SHARE
) -> list[LabelledFile]:
    """Hold whole sources out for the test, and of the others some for validation; given splits are not looked at.

    Raises:
        RepositoryError: as :func:`hold_sources_out`.
    """
    held = hold_sources_out(files, "test", TEST_SHARE, seed=seed)
    test = [file for file in held if file.split == "test"]
    training = [file for file in held if file.split == "train"]
    if validation:
        training = hold_sources_out(training, "validation", validation, seed=seed)
    return sorted(training + test, key=lambda file: file.path)


def hold_sources_out(files: Sequence[LabelledFile], part: Split, share: float, *, seed: int) -> list[LabelledFile]:
    """Move whole sources to ``part`` until it has about ``share`` of every class of three sources or more.

    No class loses more than half of its images, or its last two sources: what cannot be held out without that stays.

    Raises:
        RepositoryError: a file has no source, or no class has three.
    """
    if missing := [file for file in files if not file.source]:
        raise RepositoryError(f"{missing[0].path} has no source: the manifest needs a column source or upstream")
    sources = _Sources(files)
    if not sources.large_classes():
        raise RepositoryError(f"no class has {LEAST_SOURCES} sources: none can be held out, split by group instead")
    random = Random(seed)  # noqa: S311 (no secret)
    for label in sources.large_classes():
        order = random.sample(sorted(sources.of_class[label]), len(sources.of_class[label]))
        # Sources are of all sizes: one that would take too much goes only where no other will do.
        sources.hold_out(label, order, enough=share, most=min(2 * share, MOST_HELD_OUT))
        sources.hold_out(label, order, enough=0.0, most=MOST_HELD_OUT)
    return [replace(file, split=part if file.source in sources.chosen else "train") for file in files]


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
