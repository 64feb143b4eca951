"""The one interface that every engine offers, and the filter that every engine understands."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Final, Self
from uuid import UUID

import numpy as np

from index.schema import Description, Payload, Point, PointBatch, Vector
from model.errors import NonFiniteFeaturesError

MISSING = "unknown"
"""Value of a filter for points that lack the field; of the organ it is a stored value."""


@dataclass(frozen=True, slots=True)
class Where:
    """Which points to consider.

    Attributes:
        must: keyword field → values, of which the point has one; all fields must agree. :data:`MISSING` among the
            values is met by points without the field.
        must_not: keyword field → values, of which the point has none.
        exclude_ids: points that are left out.
    """

    must: Mapping[str, Collection[str]] = field(default_factory=dict)
    must_not: Mapping[str, Collection[str]] = field(default_factory=dict)
    exclude_ids: Collection[UUID] = ()


EVERYTHING = Where()

GRAPH_CANDIDATES: Final = 256
"""Candidates kept while the graph is walked (hnsw_ef): with Qdrant's own 100 a million features of real shape gave a
recall@10 of 0.965."""

OVERSAMPLING: Final = 8.0
"""Candidates taken from the quantized copy for each result, then rescored by their originals."""


RANK_FUSION: Final = 60
"""The constant of reciprocal rank fusion, of its authors. On frames of real scanners the nearest hit of two encoders'
heads was right in 0.738 of the queries, with Qdrant's own 2 in 0.722, and by the better head alone in 0.710."""


def fusion_depth(top: int) -> int:
    """How many points of each layer are ranked where ``top`` are wanted: beyond a hundred more changed nothing."""
    return max(100, 4 * top)


def graph_is_complete(points: int, indexed: int, dimensions: Mapping[str, int], threshold_kb: float) -> bool:
    """Whether so few vectors are outside the graph that the engine builds none for them.

    Args:
        points: in the index.
        indexed: vectors in the graph, of all layers together.
        dimensions: by layer, the length of its vectors.
        threshold_kb: of a layer's vectors, below which it gets no graph.
    """
    kb_a_vector = [values * 2 / 1024 for values in dimensions.values() if points * values * 2 / 1024 >= threshold_kb]
    outside = len(kb_a_vector) * points - indexed
    return not kb_a_vector or outside / len(kb_a_vector) * max(kb_a_vector) < threshold_kb


@dataclass(frozen=True, slots=True)
class Hit:
    """A neighbour.

    Attributes:
        id: of the point.
        score: its Euclidean distance, least first; in a layer that is compared by dot products that product, of fused
            layers the sum of its reciprocal ranks, and of examples its recommendation score, greatest first.
        payload: what is stored with it.
    """

    id: UUID
    score: float
    payload: Payload


@dataclass(frozen=True, slots=True)
class Statistics:
    """State of an index.

    Attributes:
        points: number of points.
        vectors: number of vectors, points × layers.
        indexed_vectors: vectors in the HNSW graph; the others are compared one by one.
        complete: whether so few vectors stand outside the graph that it would not be built for them.
        bytes_on_disk: size of everything the engine stores; ``None`` of a server, which does not tell.
    """

    points: int
    vectors: int
    indexed_vectors: int
    complete: bool
    bytes_on_disk: int | None


class Searchable(ABC):
    """An open index to search in. Close it, or use it as a context manager.

    Every method raises :class:`model.errors.VectorIndexError` when the engine refuses.

    Attributes:
        description: what the index says of itself.
        asked: the process that writes to it, for people to read, where that one answers instead of the engine.
    """

    description: Description
    asked: str | None = None

    @abstractmethod
    def retrieve(self, ids: Collection[UUID]) -> dict[UUID, Payload]:
        """The payloads of those points that are stored."""

    @abstractmethod
    def vector(self, point: UUID, layer: str) -> Vector:
        """One stored vector, ``(dimension,)`` float32."""

    @abstractmethod
    def nearest(
        self, vector: Vector, layer: str, *, top: int, where: Where = EVERYTHING, exact: bool = False
    ) -> list[Hit]:
        """The ``top`` nearest points to a ``(dimension,)`` vector by the layer's distance, nearest first.

        ``exact`` compares with every original vector instead of walking the graph.
        """

    def nearest_each(
        self, vectors: Sequence[Vector], layer: str, *, top: int, where: Where = EVERYTHING, exact: bool = False
    ) -> list[list[Hit]]:
        """As :meth:`nearest` for each of several vectors, in one request where the engine takes them so."""
        return [self.nearest(vector, layer, top=top, where=where, exact=exact) for vector in vectors]

    @abstractmethod
    def fused(
        self, vectors: Mapping[str, Vector], *, top: int, where: Where = EVERYTHING, exact: bool = False
    ) -> list[Hit]:
        """As :meth:`nearest` by several layers at once: best first by the sum of 1 / (:data:`RANK_FUSION` + rank).

        Reciprocal rank fusion (Cormack et al. 2009). In each layer as many points are ranked as :func:`fusion_depth`
        says.

        Args:
            vectors: by layer, ``(dimension,)``.
            top: points wanted.
            where: which points to consider.
            exact: as of :meth:`nearest`.
        """

    @abstractmethod
    def recommended(
        self,
        more: Sequence[Vector],
        less: Sequence[Vector],
        layer: str,
        *,
        top: int,
        where: Where = EVERYTHING,
        exact: bool = False,
    ) -> list[Hit]:
        """Points like some examples and unlike others, best first, by Qdrant's recommendation with the best score.

        A point that is nearer to one of ``more`` than to any of ``less`` has a score above 0, all others one below it.

        Args:
            more: vectors of the layer, each ``(dimension,)``, at least one.
            less: as ``more``, perhaps none.
            layer: whose distance counts.
            top: points wanted.
            where: which points to consider.
            exact: as of :meth:`nearest`.
        """

    @abstractmethod
    def rank(
        self, vector: Vector, layer: str, *, top: int, where: Where = EVERYTHING, exact: bool = False
    ) -> list[UUID]:
        """As :meth:`nearest`, but only the ids: for rankings as long as the index."""

    @abstractmethod
    def scroll(self, where: Where = EVERYTHING, *, start: UUID | None = None) -> Iterator[tuple[UUID, Payload]]:
        """All points that match, in order of their ids, from ``start`` on."""

    @abstractmethod
    def count(self, where: Where = EVERYTHING) -> int:
        """How many points match, exactly."""

    @abstractmethod
    def facet(self, keyword: str) -> dict[str, int]:
        """Number of points by each value of a keyword field, most frequent first."""

    @abstractmethod
    def statistics(self) -> Statistics:
        """The state of the index now."""

    @abstractmethod
    def close(self) -> None:
        """Write what is pending and let go of the index."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class Index(Searchable):
    """An open index to search in and to write to."""

    def upsert(self, points: Sequence[Point]) -> None:
        """As :meth:`upsert_batch`."""
        if points:
            self.upsert_batch(PointBatch.of(points))

    def upsert_batch(self, batch: PointBatch) -> None:
        """Insert points, or replace those of the same ids.

        Raises:
            NonFiniteFeaturesError: a vector holds NaN or infinity; none of the points is stored.
            DiskFullError: too little space is left; none of the points is stored.
        """
        if not batch.ids:
            return
        for layer, vectors in batch.vectors.items():
            finite = np.isfinite(vectors).all(axis=1)
            if not finite.all():
                first = batch.payloads[int(finite.argmin())]
                raise NonFiniteFeaturesError(f"{first['path']}, frame {first['frame']}: its {layer} is not finite")
        self._store(batch)

    @abstractmethod
    def _store(self, batch: PointBatch) -> None:
        """Insert or replace points, at least one, whose features are finite."""

    @abstractmethod
    def delete(self, ids: Collection[UUID]) -> None:
        """Remove points; ids that are not stored are ignored."""

    @abstractmethod
    def set_payload(self, point: UUID, payload: Payload) -> None:
        """Replace the payload of a stored point; its vectors stay."""

    @abstractmethod
    def index_keywords(self) -> None:
        """Make the keyword indexes that an index of an earlier version lacks (:data:`index.schema.KEYWORDS`)."""

    @abstractmethod
    def points(self, after: UUID | None = None) -> Iterator[Point]:
        """All points with their vectors, in order of their ids, from the first one behind ``after``."""

    @abstractmethod
    def flush(self) -> None:
        """Return only when everything upserted and deleted would survive a loss of power."""

    def keep_up(self) -> None:
        """Extend the HNSW graph over what was added so far, if that is much: little is left for :meth:`optimize`.

        An engine that builds it beside its other work, or not while points are loaded, does nothing.
        """

    @abstractmethod
    def optimize(self, told: Callable[[Statistics], None] = lambda _: None) -> None:
        """Build the HNSW graph over what was added; blocks until it is complete.

        Args:
            told: called now and then with the index's state, where the engine gives it meanwhile.
        """

    @abstractmethod
    def update_description(self, *, roots: Sequence[str], model_path: str, viewer_url: str = "") -> None:
        """Store new roots (old ones keep their numbers), where the model lies, and a viewer's address if one is given.

        On a server another job may have added roots since ``description`` was read: then nothing is stored, and
        ``description`` has them.
        """

    @abstractmethod
    def replace_root(self, number: int, address: str) -> None:
        """Say that everything below a root lies below another address now; the points stay as they are."""
