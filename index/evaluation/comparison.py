"""Several models side by side: how well each of their layers retrieves the labels of a repository.

The labels need not be classes of a model, and a model need not have any: nothing is classified.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from index.engines.engine import RANK_FUSION
from index.evaluation.measures import average_precision, precision_at
from model.errors import ImageError, RepositoryError, SettingError
from model.network.preprocessing import batches
from model.suggestions import unknown_name
from model.training.loading import LabelledFrames, joined, load_repository
from model.training.measures import Interval

if TYPE_CHECKING:
    from model.network.embedder import Embedder
    from model.training.repository import LabelledFile

RESAMPLES: Final = 1000
"""Of whole groups, for the intervals: images of one patient are no independent draws."""

_QUERIES: Final = 256

Features = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Compared:
    """What one way to search finds.

    Attributes:
        model: its name; of several whose ranks are fused, all of them.
        layer: whose features are compared.
        values: of a feature.
        precision: share of right hits among the first 1 and 5, by rank.
        interval: 95 % interval of the first of them, over groups.
        mean_average_precision: over all relevant images.
        images_per_second: of the model, decoded before; 0 where ranks are fused.
    """

    model: str
    layer: str
    values: int
    precision: Mapping[int, float]
    interval: Interval | None
    mean_average_precision: float
    images_per_second: float

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Comparison:
    """The ways to search, the number of queries that count, and what could not be read."""

    rows: tuple[Compared, ...]
    queries: int
    images: int
    left_out: tuple[ImageError, ...]


def compare_models(
    models: Sequence[tuple[str, Embedder]],
    files: Sequence[LabelledFile],
    *,
    layers: Sequence[str] = (),
    workers: int = 0,
    loaded: Callable[[int, int], None] | None = None,
    embedded: Callable[[int, int], None] | None = None,
) -> Comparison:
    """Search for each test image among all images but those of its group, by every layer of every model.

    Args:
        models: with their names.
        files: with their splits.
        layers: names of the layers to compare, by default all; a model that has none of them is compared by its first.
        workers: processes that decode.
        loaded: told how many of how many files are decoded, anew for each model.
        embedded: told how many of how many frames are embedded.

    Raises:
        SettingError: no model has a layer that is named.
        RepositoryError: no test image can be read, or none has an image of its label in another group.
    """
    known = tuple(dict.fromkeys(layer for _, embedder in models for layer in embedder.layers))
    for layer in layers:
        if layer not in known:
            raise SettingError(f"--layers {','.join(layers)}: {unknown_name('layer', layer, known)}")
    names = tuple(sorted({file.label for file in files}))
    rows: list[Compared] = []
    fused: dict[str, tuple[Features, bool]] = {}
    counted, images = 0, 0
    left_out: list[ImageError] = []
    for name, embedder in models:
        parts, left_out = load_repository(files, names, workers=workers, prepare=embedder.preparation, progress=loaded)
        if not len(parts["test"]):
            raise RepositoryError("no image of the test part could be read: nothing can be compared")
        frames = joined([part for part in (parts["train"], parts["validation"], parts["test"]) if len(part)])
        queries, images = np.arange(len(frames) - len(parts["test"]), len(frames)), len(frames)
        groups = np.unique([files[number].group for number in frames.files], return_inverse=True)[1]
        wanted = [layer for layer in embedder.layers if not layers or layer in layers] or list(embedder.layers)[:1]
        features, rate = embed_layers(embedder, frames, wanted, embedded)
        for layer, values in features.items():
            answers = _Answers(frames.labels, groups, queries)
            for places, distances in _distances(values, queries, dot=layer in embedder.metadata.dot_layers):
                answers.add(places, distances)
            counted = len(answers.groups)
            rows.append(answers.measured(name, layer, values.shape[1], rate))
        for layer in _chosen(wanted):
            dot = layer in embedder.metadata.dot_layers
            fused[f"{name} {layer}"] = features[layer], dot
    if not counted:
        raise RepositoryError("no test image has an image of its label in another group: nothing can be found")
    if len(fused) > 1:
        rows.append(_fused(fused, frames.labels, groups, queries))
    return Comparison(tuple(rows), counted, images, tuple(left_out))


def _chosen(layers: Sequence[str]) -> tuple[str, ...]:
    """The layers whose ranks are fused: of each model, also of each that is joined, the last, where heads stand."""
    return tuple({layer.rpartition(".")[0]: layer for layer in layers}.values())


class _Answers:
    """Gathers, for the queries that have anything to find, which hits are relevant."""

    def __init__(self, labels: NDArray[np.int64], groups: NDArray[np.int64], queries: NDArray[np.int64]) -> None:
        self._labels, self._groups, self._queries = labels, groups, queries
        self.first: list[bool] = []
        self.five: list[float] = []
        self.averages: list[float] = []
        self.groups: list[int] = []

    def add(self, places: NDArray[np.int64], distances: NDArray[np.float64]) -> None:
        """Rank all images for some queries by their distances ``(queries, images)``."""
        for place, row in zip(places, distances, strict=True):
            other = self._groups != self._groups[place]
            relevant = (self._labels == self._labels[place]) & other
            if not relevant.any():
                continue
            order = np.argsort(np.where(other, row, np.inf), kind="stable")[: other.sum()]
            hits = relevant[order]
            self.first.append(bool(hits[0]))
            self.five.append(precision_at([hits], 5))
            self.averages.append(average_precision(hits, int(relevant.sum())))
            self.groups.append(int(self._groups[place]))

    def measured(self, model: str, layer: str, values: int, rate: float) -> Compared:
        """Means over the queries."""
        precision = {1: float(np.mean(self.first)), 5: float(np.mean(self.five))} if self.first else {1: 0.0, 5: 0.0}
        interval = over_groups(np.array(self.first, np.float64), np.array(self.groups))
        mean = float(np.mean(self.averages)) if self.averages else 0.0
        return Compared(model, layer, values, precision, interval, mean, rate)


def over_groups(values: NDArray[np.float64], groups: NDArray[np.int64]) -> Interval | None:
    """The 95 % interval of a mean over resamples of whole groups; ``None`` of fewer than two."""
    number = np.unique(groups, return_inverse=True)[1] if len(groups) else groups
    counts = np.bincount(number) if len(number) else np.array([], np.int64)
    if len(counts) < 2:
        return None
    sums = np.bincount(number, values)
    chosen = np.random.default_rng(0).integers(0, len(counts), (RESAMPLES, len(counts)))
    means = sums[chosen].sum(1) / counts[chosen].sum(1)
    low, high = np.percentile(means, [2.5, 97.5])
    return Interval(float(low), float(high))


def embed_layers(
    embedder: Embedder, frames: LabelledFrames, layers: Sequence[str], told: Callable[[int, int], None] | None
) -> tuple[dict[str, Features], float]:
    """Every frame's features of some layers, and how many frames a second."""
    started, done = time.perf_counter(), 0
    parts: dict[str, list[Features]] = {layer: [] for layer in layers}
    for batch in batches(frames.images):
        for layer, values in embedder.embed(np.asarray(batch), layers).features.items():
            parts[layer].append(values)
        done += len(batch)
        if told:
            told(done, len(frames))
    rate = len(frames) / (time.perf_counter() - started)
    return {layer: np.concatenate(values) for layer, values in parts.items()}, rate


def _distances(
    features: Features, queries: NDArray[np.int64], *, dot: bool
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.float64]]]:
    """Squared Euclidean distances, or negated dot products, of some queries to all images, ``(queries, images)``."""
    values = features.astype(np.float64)
    squares = (values**2).sum(1)
    for start in range(0, len(queries), _QUERIES):
        places = queries[start : start + _QUERIES]
        products = values[places] @ values.T
        yield places, -products if dot else squares[places, None] + squares[None] - 2 * products


def _fused(
    features: Mapping[str, tuple[Features, bool]],
    labels: NDArray[np.int64],
    groups: NDArray[np.int64],
    queries: NDArray[np.int64],
) -> Compared:
    """One layer of each model, their ranks fused: as a search fuses them."""
    answers = _Answers(labels, groups, queries)
    for several in zip(*(_distances(values, queries, dot=dot) for values, dot in features.values()), strict=True):
        places = several[0][0]
        score = np.zeros_like(several[0][1])
        for _, distances in several:
            hidden = np.where(groups[places][:, None] == groups[None], np.inf, distances)
            score += 1.0 / (RANK_FUSION + 1 + hidden.argsort(1, kind="stable").argsort(1, kind="stable"))
        answers.add(places, -score)
    values = sum(one.shape[1] for one, _ in features.values())
    return answers.measured(" + ".join(features), "ranks fused", values, 0.0)
