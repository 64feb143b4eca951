"""The server engine: one collection of a Qdrant server or cluster."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import count
from typing import Any, TypeVar
from uuid import UUID

import numpy as np
from qdrant_client import QdrantClient, models

from index.engines.collection import (
    INDEXING_THRESHOLD_KB,
    allow_graph,
    defer_graph,
    index_keywords,
    read_collection,
    write_description,
)
from index.engines.connection import Connection
from index.engines.engine import (
    EVERYTHING,
    GRAPH_CANDIDATES,
    MISSING,
    OVERSAMPLING,
    RANK_FUSION,
    Hit,
    Index,
    Statistics,
    Where,
    fusion_depth,
    graph_is_complete,
)
from index.schema import Description, Payload, Point, PointBatch, Vector
from model.errors import VectorIndexError

REQUEST_BYTES = 7 * 2**19
"""Size of one upsert's vectors: with ids and payloads it stays below 4 MiB, which is all that gRPC takes by default, in
proxies on the way, too."""

READ_PATIENCE_SECONDS = 15.0
"""A person waits for a search."""

WRITE_PATIENCE_SECONDS = 3600.0
"""A job waits for a server that is updated or moved."""

_QUERIES = 64
"""Vectors that are searched for in one request."""

_SCROLL = 1024
_SCROLL_VECTORS = 256
_POLL_SECONDS = 1.0
_SETTLING_SECONDS = 1.0
"""Time after which a description that another job wrote at the same moment would be there instead of ours."""

_REMINDED_POLLS = 60

Result = TypeVar("Result")


class ServerIndex(Index):
    """See :class:`index.engines.engine.Index`. Made by :func:`index.opening.open_index` and ``create_index``.

    Args:
        connection: to the server; closed with the index.
        collection: its name; it must exist.
        address: how to name it to people.
        patience: seconds for which passing failures of reads and of writes are waited out.
    """

    def __init__(
        self,
        connection: Connection,
        collection: str,
        address: str,
        *,
        patience: tuple[float, float] | None = None,
    ) -> None:
        self._collection, self._address = collection, address
        self._connections, self._of_threads = [connection], threading.local()
        self._of_threads.connection = connection
        self._deferring = threading.Lock()
        self._read_patience, self._write_patience = patience or (READ_PATIENCE_SECONDS, WRITE_PATIENCE_SECONDS)
        self._loading = False
        self.description = self._read_description()

    def _store(self, batch: PointBatch) -> None:
        self._defer_graph()
        vectors: dict[str, Any] = {layer: values.astype(np.float32) for layer, values in batch.vectors.items()}
        request = max(1, REQUEST_BYTES // sum(values[0].nbytes for values in vectors.values()))
        # Arrays go to the wire as they are. One call opens one channel; its own retries know no back-off.
        self._write(
            lambda client: client.upload_collection(
                self._collection,
                vectors=vectors,
                ids=list(map(str, batch.ids)),
                payload=list(map(dict, batch.payloads)),
                batch_size=request,
                max_retries=0,
                wait=True,
            )
        )

    def delete(self, ids: Collection[UUID]) -> None:
        if ids:
            self._write(lambda client: client.delete(self._collection, models.PointIdsList(points=_texts(ids))))

    def set_payload(self, point: UUID, payload: Payload) -> None:
        self._write(lambda client: client.overwrite_payload(self._collection, payload.to_dict(), [str(point)]))

    def index_keywords(self) -> None:
        self._write(lambda client: index_keywords(client, self._collection))

    def retrieve(self, ids: Collection[UUID]) -> dict[UUID, Payload]:
        if not ids:
            return {}
        records = self._read(lambda client: client.retrieve(self._collection, _texts(ids), with_payload=True))
        return {UUID(str(record.id)): Payload.from_dict(record.payload or {}) for record in records}

    def vector(self, point: UUID, layer: str) -> Vector:
        records = self._read(
            lambda client: client.retrieve(self._collection, [str(point)], with_payload=False, with_vectors=[layer])
        )
        if not records or not isinstance(records[0].vector, dict):
            raise VectorIndexError(f"{self._address} holds no point {point}")
        return np.asarray(records[0].vector[layer], dtype=np.float32)

    def nearest(
        self, vector: Vector, layer: str, *, top: int, where: Where = EVERYTHING, exact: bool = False
    ) -> list[Hit]:
        found = self._query(vector, layer, top, where, exact, with_payload=True)
        return list(map(_hit, found))

    def nearest_each(
        self, vectors: Sequence[Vector], layer: str, *, top: int, where: Where = EVERYTHING, exact: bool = False
    ) -> list[list[Hit]]:
        requests = [
            models.QueryRequest(
                query=np.asarray(vector, dtype=np.float32).tolist(),
                using=layer,
                limit=top,
                filter=_filter(where),
                params=_search_params(exact=exact),
                with_payload=True,
            )
            for vector in vectors
        ]
        found: list[list[Hit]] = []
        for start in range(0, len(requests), _QUERIES):
            part = requests[start : start + _QUERIES]
            answers = self._read(partial(_query_batch, self._collection, part))
            found += [list(map(_hit, answer.points)) for answer in answers]
        return found

    def rank(
        self, vector: Vector, layer: str, *, top: int, where: Where = EVERYTHING, exact: bool = False
    ) -> list[UUID]:
        return [UUID(str(p.id)) for p in self._query(vector, layer, top, where, exact, with_payload=False)]

    def fused(
        self, vectors: Mapping[str, Vector], *, top: int, where: Where = EVERYTHING, exact: bool = False
    ) -> list[Hit]:
        depth = fusion_depth(top)
        prefetches = [
            models.Prefetch(
                query=np.asarray(vector, dtype=np.float32).tolist(),
                using=layer,
                limit=depth,
                filter=_filter(where),
                params=_search_params(exact=exact),
            )
            for layer, vector in vectors.items()
        ]
        found = self._read(
            lambda client: client.query_points(
                self._collection,
                prefetch=prefetches,
                query=models.RrfQuery(rrf=models.Rrf(k=RANK_FUSION)),
                limit=top,
                with_payload=True,
            )
        ).points
        return list(map(_hit, found))

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
        examples = models.RecommendInput(
            positive=[np.asarray(vector, dtype=np.float32).tolist() for vector in more],
            negative=[np.asarray(vector, dtype=np.float32).tolist() for vector in less],
            strategy=models.RecommendStrategy.BEST_SCORE,
        )
        found = self._read(
            lambda client: client.query_points(
                self._collection,
                models.RecommendQuery(recommend=examples),
                using=layer,
                limit=top,
                query_filter=_filter(where),
                search_params=_search_params(exact=exact),
                with_payload=True,
            )
        ).points
        return list(map(_hit, found))

    def _query(
        self, vector: Vector, layer: str, top: int, where: Where, exact: bool, *, with_payload: bool
    ) -> list[models.ScoredPoint]:
        return self._read(
            lambda client: client.query_points(
                self._collection,
                np.asarray(vector, dtype=np.float32),
                using=layer,
                limit=top,
                query_filter=_filter(where),
                search_params=_search_params(exact=exact),
                with_payload=with_payload,
            )
        ).points

    def scroll(self, where: Where = EVERYTHING, *, start: UUID | None = None) -> Iterator[tuple[UUID, Payload]]:
        for record in self._records(_SCROLL, where, offset=str(start) if start else None):
            yield UUID(str(record.id)), Payload.from_dict(record.payload or {})

    def points(self, after: UUID | None = None) -> Iterator[Point]:
        for record in self._records(_SCROLL_VECTORS, offset=str(after) if after else None, with_vectors=True):
            point, stored = UUID(str(record.id)), record.vector
            if point != after and isinstance(stored, dict):  # an offset is the first point of a page
                vectors = {layer: np.asarray(vector, np.float32) for layer, vector in stored.items()}
                yield Point(point, Payload.from_dict(record.payload or {}), vectors)

    def _records(
        self, limit: int, where: Where = EVERYTHING, *, offset: Any = None, with_vectors: bool = False
    ) -> Iterator[models.Record]:
        """All points that match, page by page, in order of their ids."""

        def page(at: Any, client: QdrantClient) -> tuple[list[models.Record], Any]:
            return client.scroll(
                self._collection,
                scroll_filter=_filter(where),
                limit=limit,
                offset=at,
                with_payload=True,
                with_vectors=with_vectors,
            )

        while True:
            records, offset = self._read(partial(page, offset))
            yield from records
            if offset is None:
                return

    def count(self, where: Where = EVERYTHING) -> int:
        return self._read(lambda client: client.count(self._collection, _filter(where), exact=True)).count

    def facet(self, keyword: str) -> dict[str, int]:
        answer = self._read(lambda client: client.facet(self._collection, keyword, limit=100_000, exact=True))
        return {str(hit.value): hit.count for hit in answer.hits}

    def flush(self) -> None:
        """Every write has waited for its confirmation: nothing is left to flush."""

    def optimize(self, told: Callable[[Statistics], None] = lambda _: None) -> None:
        self._loading = False
        self._write(lambda client: allow_graph(client, self._collection))
        for poll in count(1):
            told(statistics := self._statistics(self._write_patience))
            if statistics.complete:
                return
            time.sleep(_POLL_SECONDS)
            if poll % _REMINDED_POLLS == 0:  # another job may have deferred it again, or the server was restarted
                self._write(lambda client: allow_graph(client, self._collection))

    def statistics(self) -> Statistics:
        return self._statistics(self._read_patience)

    def _statistics(self, patience: float) -> Statistics:
        info = self._patiently(lambda client: client.get_collection(self._collection), patience)
        if info.status == models.CollectionStatus.RED:
            raise VectorIndexError(f"{self._address} cannot build its vector index: {info.optimizer_status}")
        points = info.points_count or 0
        vectors = points * len(self.description.layers)
        indexed = min(info.indexed_vectors_count or 0, vectors)
        # Small segments never have a graph.
        threshold_kb = INDEXING_THRESHOLD_KB * max(info.segments_count, 1)
        complete = info.status == models.CollectionStatus.GREEN and graph_is_complete(
            points, indexed, self.description.dimensions, threshold_kb
        )
        return Statistics(points, vectors, indexed, complete, None)

    def update_description(self, *, roots: Sequence[str], model_path: str, viewer_url: str = "") -> None:
        there = self._read_description()
        if tuple(roots[: len(there.roots)]) == there.roots:  # else another job has added some since they were read
            viewer_url = viewer_url or there.viewer_url
            changed = replace(there, roots=tuple(roots), model_path=model_path, viewer_url=viewer_url)
            if changed != there:
                self._write(lambda client: write_description(client, self._collection, changed))
            if changed.roots != there.roots:
                time.sleep(_SETTLING_SECONDS)
            there = self._read_description()
        self.description = there

    def replace_root(self, number: int, address: str) -> None:
        there = self._read_description()
        roots = tuple(address if one == number else root for one, root in enumerate(there.roots))
        self._write(lambda client: write_description(client, self._collection, replace(there, roots=roots)))
        self.description = self._read_description()

    def close(self) -> None:
        for connection in self._connections:
            connection.close()

    def _defer_graph(self) -> None:
        """Before the first points of this process."""
        with self._deferring:
            if self._loading:
                return
            self._write(lambda client: defer_graph(client, self._collection))
            self._loading = True

    def _read_description(self) -> Description:
        return self._read(lambda client: read_collection(client, self._collection, self._address))

    def _read(self, call: Callable[[QdrantClient], Result]) -> Result:
        return self._patiently(call, self._read_patience)

    def _write(self, call: Callable[[QdrantClient], Result]) -> Result:
        return self._patiently(call, self._write_patience)

    def _patiently(self, call: Callable[[QdrantClient], Result], seconds: float) -> Result:
        connection: Connection | None = getattr(self._of_threads, "connection", None)
        if connection is None:  # a thread that stores; after a failure each goes to another node by itself
            connection = self._of_threads.connection = self._connections[0].another()
            self._connections.append(connection)
        return connection.patiently(call, seconds)


def _search_params(*, exact: bool) -> models.SearchParams:
    quantization = models.QuantizationSearchParams(ignore=exact, rescore=True, oversampling=OVERSAMPLING)
    return models.SearchParams(hnsw_ef=GRAPH_CANDIDATES, exact=exact, quantization=quantization)


def _hit(point: models.ScoredPoint) -> Hit:
    return Hit(UUID(str(point.id)), float(point.score), Payload.from_dict(point.payload or {}))


def _filter(where: Where) -> models.Filter | None:
    must: list[Any] = [_condition(key, values) for key, values in where.must.items()]
    must_not: list[Any] = [_condition(key, values) for key, values in where.must_not.items()]
    if where.exclude_ids:
        must_not.append(models.HasIdCondition(has_id=_texts(where.exclude_ids)))
    return models.Filter(must=must or None, must_not=must_not or None) if must or must_not else None


def _condition(key: str, values: Collection[str]) -> models.FieldCondition | models.Filter:
    match = models.FieldCondition(key=key, match=models.MatchAny(any=list(values)))
    if MISSING not in values:
        return match
    return models.Filter(should=[match, models.IsEmptyCondition(is_empty=models.PayloadField(key=key))])


def _texts(ids: Collection[UUID]) -> list[Any]:
    return [str(point) for point in ids]


def _query_batch(
    collection: str, requests: Sequence[models.QueryRequest], client: QdrantClient
) -> list[models.QueryResponse]:
    return client.query_batch_points(collection, requests)
