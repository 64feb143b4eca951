"""How well series find series of their label: rules by which slices are pooled, beside a search by the middle slice.

P@1, P@3, P@5, P@10 and mean average precision over series are those of "3D-MIR: A Benchmark and Empirical Study on 3D
Medical Image Retrieval in Radiology" (2023), with the query's patient left out; the recall at ten, the share of the
relevant series that are among the first ten, is the volume recall of "Content-Based Image Retrieval for Multi-Class
Volumetric Radiology Images: A Benchmark Study" (2024).
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from index.engines.engine import RANK_FUSION
from index.evaluation.comparison import Features, embed_layers, over_groups
from index.evaluation.measures import average_precision, precision_at
from index.series import DEPTH, OUT_OF_ORDER
from index.series_query import SLICES, evenly, natural
from model.errors import ImageError, RepositoryError, SettingError
from model.suggestions import unknown_name
from model.training.loading import joined, load_repository
from model.training.measures import Interval

if TYPE_CHECKING:
    from model.network.embedder import Embedder
    from model.training.repository import LabelledFile

LEAST_SLICES: Final = 8
"""Frames of a series that is a query; shorter ones are only found."""

RANKS: Final = (1, 3, 5, 10)

BASELINE: Final = "middle slice"

POOLINGS: Final = (BASELINE, "votes", "best", "ranks", "late", "ordered")
"""As :data:`index.series.Pooling`, after what they are compared with."""


@dataclass(frozen=True, slots=True)
class PooledBySeries:
    """What one rule finds.

    Attributes:
        model, layer, pooling: whose features, and by which rule.
        precision: share of right series among the first, by rank.
        mean_average_precision: over all relevant series.
        recall: share of the relevant series among the first ten.
        gain: 95 % interval over groups of the mean average precision above that of the middle slice, which has none.
    """

    model: str
    layer: str
    pooling: str
    precision: Mapping[int, float]
    mean_average_precision: float
    recall: float
    gain: Interval | None

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class SeriesComparison:
    """The rules, how many series are queries and how many there are, and what could not be read."""

    rows: tuple[PooledBySeries, ...]
    queries: int
    series: int
    left_out: tuple[ImageError, ...]


@dataclass(frozen=True, slots=True)
class _Series:
    """Series of a repository: rows of their frames in order, labels, groups, and which of them are tested."""

    frames: list[NDArray[np.int64]]
    labels: list[str]
    groups: list[str]
    tested: list[bool]


def compare_by_series(
    models: Sequence[tuple[str, Embedder]],
    files: Sequence[LabelledFile],
    *,
    layers: Sequence[str] = (),
    slices: int = SLICES,
    workers: int = 0,
    loaded: Callable[[int, int], None] | None = None,
    embedded: Callable[[int, int], None] | None = None,
) -> SeriesComparison:
    """Search for each series of the test part, if it has slices enough, among all series but those of its group.

    A series is what the manifest's column ``series`` names, else a file. Its slices are in the order of their files.

    Args:
        models: with their names.
        files: with their splits.
        layers: to compare; by default the first of each model, and its heads.
        slices: of each query to compare.
        workers: processes that decode.
        loaded: told how many of how many files are decoded.
        embedded: told how many of how many frames are embedded.

    Raises:
        SettingError: no model has a layer that is named.
        RepositoryError: no series of the test part is long enough, or has another one of its label.
    """
    known = tuple(dict.fromkeys(layer for _, embedder in models for layer in embedder.layers))
    for layer in layers:
        if layer not in known:
            raise SettingError(f"--layers {layer}: {unknown_name('layer', layer, known)}")
    names = tuple(sorted({file.label for file in files}))
    rows: list[PooledBySeries] = []
    left_out: list[ImageError] = []
    queries, count = 0, 0
    for name, embedder in models:
        parts, left_out = load_repository(files, names, workers=workers, prepare=embedder.preparation, progress=loaded)
        frames = joined([part for part in parts.values() if len(part)])
        found = _series(files, frames.files, frames.numbers)
        asked = [number for number in range(len(found.frames)) if _can_ask(found, number)]
        if not asked:
            raise RepositoryError(
                f"no series of the test part has {LEAST_SLICES} frames and another of its label in another group"
            )
        queries, count = len(asked), len(found.frames)
        wanted = [layer for layer in embedder.layers if layer in layers] or [
            layer for layer in embedder.layers if layer == next(iter(embedder.layers)) or layer in embedder.heads
        ]
        for layer, values in embed_layers(embedder, frames, wanted, embedded)[0].items():
            rows += _measured(name, layer, values, found, asked, slices)
    return SeriesComparison(tuple(rows), queries, count, tuple(left_out))


def _series(files: Sequence[LabelledFile], places: NDArray[np.int64], numbers: NDArray[np.int64]) -> _Series:
    in_order = sorted(range(len(files)), key=lambda place: natural(str(files[place].path)))
    turn = {place: number for number, place in enumerate(in_order)}
    rows: dict[tuple[str, str], list[tuple[int, int, int, int]]] = defaultdict(list)
    for row, (place, number) in enumerate(zip(places.tolist(), numbers.tolist(), strict=True)):
        file = files[place]
        rows[file.group, file.series or str(file.path)].append((turn[place], number, row, place))
    ordered = [sorted(of) for of in rows.values()]
    return _Series(
        [np.array([row for _, _, row, _ in of]) for of in ordered],
        [Counter(files[place].label for *_, place in of).most_common(1)[0][0] for of in ordered],
        [group for group, _ in rows],
        [files[of[0][3]].split == "test" for of in ordered],
    )


def _can_ask(series: _Series, number: int) -> bool:
    label, group = series.labels[number], series.groups[number]
    others = zip(series.labels, series.groups, strict=True)
    return (
        series.tested[number]
        and len(series.frames[number]) >= LEAST_SLICES
        and any(one == label and other != group for one, other in others)
    )


def _measured(
    model: str, layer: str, features: Features, series: _Series, asked: Sequence[int], slices: int
) -> list[PooledBySeries]:
    answers: dict[str, list[NDArray[np.bool_]]] = {pooling: [] for pooling in POOLINGS}
    groups = np.array(series.groups)
    labels = np.array(series.labels)
    features = features.astype(np.float32, copy=False)
    squares = np.einsum("nd,nd->n", features, features)
    for query in asked:
        others = np.flatnonzero(groups != groups[query])
        for pooling, scores in _scores(features, squares, series, query, others, slices).items():
            answers[pooling].append(labels[others[np.argsort(scores, kind="stable")]] == labels[query])
    averages = {
        pooling: np.array([average_precision(answer, int(answer.sum())) for answer in of])
        for pooling, of in answers.items()
    }
    of_patients = np.unique(groups[list(asked)], return_inverse=True)[1].astype(np.int64)
    return [
        PooledBySeries(
            model,
            layer,
            pooling,
            {rank: precision_at(of, rank) for rank in RANKS},
            float(averages[pooling].mean()),
            float(np.mean([answer[: RANKS[-1]].sum() / answer.sum() for answer in of])),
            over_groups(averages[pooling] - averages[BASELINE], of_patients) if pooling != BASELINE else None,
        )
        for pooling, of in answers.items()
    ]


def _scores(
    features: Features,
    squares: NDArray[np.float32],
    series: _Series,
    query: int,
    others: NDArray[np.int64],
    slices: int,
) -> dict[str, NDArray[np.float64]]:
    """By every rule, the score of each of the other series, least first.

    A search matches slice by slice only some of them (:data:`index.series.RERANKED`), here all are.
    """
    own = series.frames[query]
    chosen = own[evenly(len(own), slices)]
    frames = [series.frames[other] for other in others]
    of = np.concatenate([np.full(len(rows), number) for number, rows in enumerate(frames)])
    rows = np.concatenate(frames)
    asked = np.append(chosen, own[len(own) // 2])
    every = squares[asked][:, None] + squares[None] - 2 * (features[asked] @ features.T)
    nearby = np.sqrt(every.clip(0))[:, rows].astype(np.float64)
    distances, middle = nearby[:-1], nearby[-1]
    starts = np.concatenate([[0], np.cumsum([len(one) for one in frames])[:-1]])
    nearest = np.minimum.reduceat(distances, starts, axis=1)  # (slices, series)
    votes, ranks = np.zeros(len(others)), np.zeros(len(others))
    for row in distances:
        hits = of[np.argsort(row, kind="stable")[:DEPTH]]
        votes += np.bincount(hits, minlength=len(others))
        firsts, at = np.unique(hits, return_index=True)
        ranks[firsts] += 1 / (RANK_FUSION + at)
    best, late = nearest.min(0), nearest.mean(0)
    tie = best / (best.max() + 1)  # of equal votes or ranks the nearer comes first
    return {
        BASELINE: np.minimum.reduceat(middle, starts),
        "votes": tie - votes,
        "best": best,
        "ranks": tie * 1e-6 - ranks,
        "late": late,
        "ordered": _ordered(distances, frames, starts),
    }


def _ordered(
    distances: NDArray[np.float64], frames: Sequence[NDArray[np.int64]], starts: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Late interaction, with a match farther the more its place along the stack differs from that in the query."""
    count = len(distances)
    places = np.arange(count) / max(1, count - 1)
    scores = np.empty(len(frames))
    for number, (start, rows) in enumerate(zip(starts, frames, strict=True)):
        block = distances[:, start : start + len(rows)]
        at = block.argmin(1)
        apart = np.abs(places - at / (len(rows) - 1)) if len(rows) > 1 else np.zeros(count)
        scores[number] = (block[np.arange(count), at] * (1 + OUT_OF_ORDER * apart)).mean()
    return scores
