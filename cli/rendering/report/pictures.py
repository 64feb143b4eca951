"""Thumbnails of evaluated images, and ranked sheets as in the paper's Figs. 9 and 10."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass

import numpy as np
from PIL import Image

from index.evaluation.retrieval import RetrievalResult
from index.evaluation.run import Evaluation, Gallery

THUMBNAIL = 112
HITS = 10
RANDOM_QUERIES = 6
WORST_QUERIES = 4


@dataclass(frozen=True, slots=True)
class Thumbnail:
    """A picture with its caption; ``state`` is query, right or wrong."""

    source: str
    name: str
    caption: str
    state: str


@dataclass(frozen=True, slots=True)
class RankedSheet:
    """A query and its nearest images, without and with class prediction."""

    title: str
    rows: tuple[tuple[str, tuple[Thumbnail, ...]], ...]


def misclassified(evaluation: Evaluation) -> list[Thumbnail]:
    """Every test image whose predicted class is not its own, the surest mistake first."""
    predictions, classes = evaluation.predictions, evaluation.metadata.classes
    wrong = np.flatnonzero(predictions.predicted != predictions.labels)
    order = wrong[np.argsort(-predictions.confidence[wrong], kind="stable")]
    return [
        _thumbnail(
            evaluation.queries,
            n,
            f"{classes[predictions.labels[n]]} → {classes[predictions.predicted[n]]} ({predictions.confidence[n]:.0%})",
            "wrong",
        )
        for n in order
    ]


def ranked_sheets(evaluation: Evaluation, without: RetrievalResult, within: RetrievalResult) -> list[RankedSheet]:
    """Sheets of queries drawn by chance, each of another class where there are enough, and of the worst answered ones.

    The draw is seeded: equal evaluations show equal sheets.
    """
    labels = evaluation.predictions.labels
    shuffled = np.random.default_rng(0).permutation(len(labels))
    first_of_class = {int(labels[n]): int(n) for n in reversed(shuffled)}
    drawn = list(first_of_class.values())[:RANDOM_QUERIES]
    by_answer = np.argsort(without.average_precisions, kind="stable").tolist()
    worst = [n for n in by_answer if without.counted[n] and n not in drawn][:WORST_QUERIES]
    titles = [(n, "drawn by chance") for n in drawn] + [(n, "among the worst answered") for n in worst]
    return [_sheet(evaluation, n, title, without, within) for n, title in titles]


def _sheet(
    evaluation: Evaluation, number: int, title: str, without: RetrievalResult, within: RetrievalResult
) -> RankedSheet:
    predictions, classes = evaluation.predictions, evaluation.metadata.classes
    label, predicted = (classes[part[number]] for part in (predictions.labels, predictions.predicted))
    query = _thumbnail(evaluation.queries, number, f"query: {label}", "query")
    rows = []
    # What is unknown is searched for in the whole database in both.
    unknown = f"unknown, best guess {predicted}: whole database"
    second = f"predicted class {predicted}" if predictions.known[number] else unknown
    for name, result in (("whole database", without), (second, within)):
        ranking = result.rankings[number]
        hits = [
            _hit(evaluation, int(hit), rank, predictions.labels[number])
            for rank, hit in enumerate(ranking[:HITS][ranking[:HITS] >= 0], 1)
        ]
        rows.append((f"{name}, average precision {result.average_precisions[number]:.3f}", (query, *hits)))
    return RankedSheet(f"{evaluation.queries.names[number]} ({title})", tuple(rows))


def _hit(evaluation: Evaluation, number: int, rank: int, label: int) -> Thumbnail:
    of_hit = evaluation.image_predictions.labels[number]
    caption = f"{rank}. {evaluation.metadata.classes[of_hit]}"
    return _thumbnail(evaluation.images, number, caption, "right" if of_hit == label else "wrong")


def _thumbnail(gallery: Gallery, number: int, caption: str, state: str) -> Thumbnail:
    picture = Image.fromarray(np.asarray(gallery.frames.images[number])).resize((THUMBNAIL, THUMBNAIL))
    data = io.BytesIO()
    picture.save(data, "JPEG", quality=80)
    source = "data:image/jpeg;base64," + base64.b64encode(data.getvalue()).decode()
    return Thumbnail(source, gallery.names[number], caption, state)
