"""The stand-in's collections: each a Qdrant Edge shard in a folder, its settings beside it as the wire brought them."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any
from uuid import UUID

import qdrant_edge as edge
from qdrant_client import grpc
from qdrant_client.conversions.conversion import grpc_to_payload

SETTINGS = "config"
"""File of a collection's settings, beside its shard."""

_NO_VECTOR = "none"
"""Name of a sparse vector that no point has: a shard without any kind of vector cannot be made."""

_DISTANCES = {grpc.Distance.Euclid: edge.Distance.Euclid, grpc.Distance.Dot: edge.Distance.Dot}


class Collection:
    """One shard, and what a server tells of it.

    Args:
        folder: of this collection; an existing one is opened as it was left.
        config: of a new one.
    """

    def __init__(self, folder: Path, config: grpc.CollectionConfig | None = None) -> None:
        self._folder, self._lock = folder, threading.Lock()
        shard, settings = folder / "shard", folder / SETTINGS
        if config is not None:
            shard.mkdir(parents=True)
            self.shard = edge.EdgeShard.create(str(shard), _edge_config(config.params, config.quantization_config))
            self.config = config
            self.save()
        else:
            self.config = grpc.CollectionConfig.FromString(settings.read_bytes())
            self.shard = edge.EdgeShard.load(str(shard))

    def save(self) -> None:
        """Keep the settings, whole."""
        partial = self._folder / "config.partial"
        with self._lock:
            partial.write_bytes(self.config.SerializeToString())
            partial.rename(self._folder / SETTINGS)

    def update(self, operation: edge.UpdateOperation) -> None:
        """One write after another, each in the engine's write-ahead log before it is confirmed."""
        with self._lock:
            self.shard.update(operation)

    def drop(self) -> None:
        """Remove it from the disk."""
        with suppress(Exception):
            self.shard.close()
        shutil.rmtree(self._folder)


def _edge_config(params: grpc.CollectionParams, quantization: grpc.QuantizationConfig) -> edge.EdgeConfig:
    vectors = {
        name: edge.EdgeVectorParams(
            size=one.size,
            distance=_DISTANCES[one.distance],
            datatype=edge.VectorStorageDatatype.Float16
            if one.datatype == grpc.Datatype.Float16
            else edge.VectorStorageDatatype.Float32,
        )
        for name, one in params.vectors_config.params_map.map.items()
    }
    kind = quantization.WhichOneof("quantization")
    quantized: Any = None
    if kind == "scalar":
        quantized = edge.ScalarQuantizationConfig(type=edge.ScalarType.Int8)
    elif kind is not None:
        quantized = edge.TurboQuantQuantizationConfig(bits=edge.TurboQuantBitSize.Bits4)
    sparse = None if vectors else {_NO_VECTOR: edge.EdgeSparseVectorParams()}
    return edge.EdgeConfig(vectors=vectors or None, sparse_vectors=sparse, quantization_config=quantized)


def edge_points(points: Iterable[grpc.PointStruct]) -> list[edge.Point]:
    """The points of an upsert."""
    return [
        edge.Point(
            UUID(point.id.uuid),
            {name: list(vector.dense.data or vector.data) for name, vector in point.vectors.vectors.vectors.items()},
            grpc_to_payload(point.payload),
        )
        for point in points
    ]


def edge_ids(ids: Iterable[grpc.PointId]) -> list[UUID]:
    """Ids as the engine takes them."""
    return [UUID(one.uuid) for one in ids]


def edge_filter(wanted: grpc.Filter) -> edge.Filter:
    """A filter as the engine takes it."""
    clauses = {name: list(map(_condition, getattr(wanted, name))) or None for name in ("must", "should", "must_not")}
    return edge.Filter(**clauses)


def _condition(condition: grpc.Condition) -> Any:
    kind = condition.WhichOneof("condition_one_of")
    if kind == "field":
        return _field_condition(condition.field)
    if kind == "is_empty":
        return edge.IsEmptyCondition(condition.is_empty.key)
    if kind == "has_id":
        return edge.HasIdCondition(set(edge_ids(condition.has_id.has_id)))
    if kind == "filter":
        return edge_filter(condition.filter)
    raise NotImplementedError(f"the stand-in knows no condition {kind}")


def _field_condition(field: grpc.FieldCondition) -> edge.FieldCondition:
    match = field.match.WhichOneof("match_value")
    if match == "keyword":
        return edge.FieldCondition(field.key, match=edge.MatchValue(field.match.keyword))
    if match == "keywords":
        return edge.FieldCondition(field.key, match=edge.MatchAny(list(field.match.keywords.strings)))
    raise NotImplementedError(f"the stand-in knows no match {match}")


def edge_query(request: grpc.QueryPoints, wanted: grpc.Filter | None) -> edge.QueryRequest:
    """A query by one vector, or by several whose ranks are fused."""
    prefetches = [
        edge.Prefetch(
            limit=one.limit,
            query=_nearest(one.query, one.using),
            filter=edge_filter(one.filter) if one.HasField("filter") else None,
            params=_params(one.params),
        )
        for one in request.prefetch
    ]
    return edge.QueryRequest(
        limit=request.limit,
        query=edge.Fusion.Rrf(k=request.query.rrf.k) if prefetches else _by_vectors(request.query, request.using),
        prefetches=prefetches or None,
        filter=edge_filter(wanted) if wanted is not None else None,
        params=_params(request.params),
        with_payload=request.with_payload.enable,
    )


def _by_vectors(query: grpc.Query, using: str) -> edge.Query:
    if query.WhichOneof("variant") != "recommend":
        return _nearest(query, using)
    if query.recommend.strategy != grpc.RecommendStrategy.BestScore:
        raise NotImplementedError("the stand-in recommends by the best score only")
    more, less = (
        [list(one.dense.data) for one in part] for part in (query.recommend.positive, query.recommend.negative)
    )
    return edge.Query.RecommendBestScore(edge.RecommendQuery(positives=more, negatives=less), using=using)


def _nearest(query: grpc.Query, using: str) -> edge.Query:
    return edge.Query.Nearest(list(query.nearest.dense.data), using=using)


def _params(params: grpc.SearchParams) -> edge.SearchParams:
    told = params.quantization
    quantization = edge.QuantizationSearchParams(
        ignore=told.ignore, rescore=told.rescore, oversampling=told.oversampling or None
    )
    return edge.SearchParams(hnsw_ef=params.hnsw_ef or None, exact=params.exact, quantization=quantization)


def wire_id(point: UUID) -> grpc.PointId:
    """An id as the wire carries it."""
    return grpc.PointId(uuid=str(point))


def wire_vectors(vectors: Any) -> grpc.VectorsOutput:
    """Stored vectors as the wire carries them."""
    output = grpc.VectorsOutput()
    for name, values in (vectors or {}).items():
        output.vectors.vectors[name].dense.data.extend(values)
    return output


def selected(selector: grpc.WithVectorsSelector) -> bool | Sequence[str]:
    """Which vectors are asked for."""
    return list(selector.include.names) if selector.HasField("include") else bool(selector.enable)
