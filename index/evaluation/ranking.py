"""Rankings of a whole database for many queries, through the real index."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import UUID

import numpy as np
from numpy.typing import NDArray

from index.address import Address
from index.engines.engine import Index, Searchable, Where
from index.opening import create_index
from index.schema import Description, Location, Payload, Point
from model.images.frames import Header
from model.network.calibration import UNKNOWN

if TYPE_CHECKING:
    from model.training.evaluation import Predictions

Rankings = NDArray[np.int32]
"""``(queries, n)``: positions in the database, nearest first; -1 after the end of a shorter answer."""

_UPSERT = 256


@contextmanager
def database(
    images: Predictions, classes: Sequence[str], layers: tuple[str, ...], dot_layers: tuple[str, ...] = ()
) -> Iterator[Index]:
    """An embedded index of the images in a temporary folder, its graph built; point ids are their positions.

    Every image is a point of its own, also one that is there twice. The features of ``dot_layers`` are compared by
    their dot products.
    """
    dimensions = {layer: images.features[layer].shape[1] for layer in layers}
    description = Description("", "", tuple(classes), layers, dimensions, dot_layers=dot_layers)
    with (
        tempfile.TemporaryDirectory(prefix="cbmir-evaluation-") as folder,
        create_index(Address(Path(folder, "index")), description, purpose="cbmir evaluate") as index,
    ):
        for start in range(0, len(images.labels), _UPSERT):
            end = min(start + _UPSERT, len(images.labels))
            index.upsert([_point(images, classes, layers, number) for number in range(start, end)])
        index.optimize()
        yield index


def rank_database(
    index: Searchable,
    queries: Predictions,
    layer: str,
    *,
    size: int,
    with_class_prediction: bool,
    exact: bool,
    left_out: Sequence[Collection[int]] | None = None,
    progress: Callable[[int], None] | None = None,
) -> Rankings:
    """Rank the database for each query.

    With class prediction only images whose stored *predicted* class is the one predicted for the query are ranked,
    whatever their labels, as in a search (paper section 3.2): every wrong prediction, of query or database, costs. For
    a query that is unknown the whole database is ranked; an image of the database that is unknown is of no class.

    Args:
        index: made by :func:`database`.
        queries: with the features of ``layer``.
        layer: whose features to compare.
        size: number of images in the database.
        with_class_prediction: see above.
        exact: compare with every vector, else walk the graph, which does not lead to every image.
        left_out: for each query, positions in the database that are not ranked.
        progress: told how many queries are done.
    """
    classes = index.description.classes
    rankings = np.full((len(queries.labels), size), -1, np.int32)
    for number, (vector, predicted) in enumerate(zip(queries.features[layer], queries.predicted, strict=True)):
        must = {"organ": [classes[predicted]]} if with_class_prediction and queries.known[number] else {}
        where = Where(must, exclude_ids=frozenset(map(_id, left_out[number])) if left_out else ())
        answer = [_number(point) for point in index.rank(vector, layer, top=size, where=where, exact=exact)]
        rankings[number, : len(answer)] = answer
        if progress:
            progress(number + 1)
    return rankings


def _point(images: Predictions, classes: Sequence[str], layers: tuple[str, ...], number: int) -> Point:
    guess = classes[images.predicted[number]]
    payload = Payload(
        organ=guess if images.known[number] else UNKNOWN,
        best_guess=guess,
        organ_probability=float(images.confidence[number]),
        label=classes[images.labels[number]],
        header=Header(),
        frame=1,
        locations=(Location(0, str(number)),),
    )
    return Point(_id(number), payload, {layer: images.features[layer][number] for layer in layers})


def _id(number: int) -> UUID:
    return UUID(int=number)


def _number(point: UUID) -> int:
    return point.int
