"""The embedded engine: one Qdrant Edge shard in a folder, held by one process at a time."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any
from uuid import UUID

import numpy as np
import qdrant_edge as qdrant

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
from index.engines.owner import Answering
from index.engines.read_only import PrivateCopy
from index.home.description import read_description, write_description
from index.home.lock import IndexLock
from index.schema import KEYWORDS, Description, Payload, Point, PointBatch, Quantization, Vector
from model.errors import DiskFullError, VectorIndexError

INDEXING_THRESHOLD_KB = 20_000
"""Size of unindexed vectors from which the graph is built over them; Qdrant's own default."""

SEGMENTS = 8
"""Graphs beside each other before small ones are made one: each takes its share of a search, and a single one would be
built anew, from its beginning, whenever something is added."""

LARGEST_SEGMENT_KB = 2_000_000
"""Vectors of a graph that is never made part of a larger one: a quarter of a million of 4,096 values."""

KEEP_UP_BYTES = 2**26
"""Vectors that a job adds before it extends the graph: 8,192 of 4,096 values, for which two cores take 4 s."""

MIN_FREE_BYTES = 512 * 2**20
"""Free space below which nothing is written: the write-ahead log and a segment's rebuild need room, and a full disk
under memory-mapped files kills the process."""

_SCROLL = 1024
_SCROLL_VECTORS = 256


class EdgeIndex(Index):
    """See :class:`index.engines.engine.Index`. Made by :func:`index.opening.open_index` and ``create_index``."""

    def __init__(
        self,
        folder: Path,
        lock: IndexLock | PrivateCopy,
        *,
        create: bool,
        shard: Path | None = None,
        answers: bool = False,
        let_go: Callable[[], None] | None = None,
    ) -> None:
        self._folder, self._lock = folder, lock
        self._loading = threading.Lock()
        self._answering: Answering | None = None
        self._loaded: qdrant.EdgeShard | None = None
        self._added_bytes = 0
        self.description = read_description(folder)
        self._path = shard or folder / "shard"
        if not has_shard(folder):
            if not create or self._path.exists():
                raise VectorIndexError(f"{folder} has lost its shard: restore it, or delete the folder and index anew")
            with _engine_errors(folder):
                self._make_shard()
        if answers and isinstance(lock, IndexLock):
            self._answering = Answering(self, lock, let_go)

    def _store(self, batch: PointBatch) -> None:
        self._require_space(sum(vectors.nbytes for vectors in batch.vectors.values()))
        lists = [_lists(vectors) for vectors in batch.vectors.values()]
        named = (dict(zip(batch.vectors, vectors, strict=True)) for vectors in zip(*lists, strict=True))
        records = list(map(qdrant.Point, batch.ids, named, batch.payloads))
        with _engine_errors(self._folder):
            self._shard.update(qdrant.UpdateOperation.upsert_points(records))
        self._added_bytes += sum(2 * vectors.size for vectors in batch.vectors.values())

    def delete(self, ids: Collection[UUID]) -> None:
        with _engine_errors(self._folder):
            self._shard.update(qdrant.UpdateOperation.delete_points(list(ids)))

    def set_payload(self, point: UUID, payload: Payload) -> None:
        with _engine_errors(self._folder):
            self._shard.update(qdrant.UpdateOperation.overwrite_payload([point], payload.to_dict()))

    def index_keywords(self) -> None:
        with _engine_errors(self._folder):
            _index_keywords(self._shard)

    def retrieve(self, ids: Collection[UUID]) -> dict[UUID, Payload]:
        with _engine_errors(self._folder):
            records = self._shard.retrieve(list(ids), True, False)
        return {record.id: Payload.from_dict(record.payload) for record in records}

    def vector(self, point: UUID, layer: str) -> Vector:
        with _engine_errors(self._folder):
            records = self._shard.retrieve([point], False, [layer])
        if not records:
            raise VectorIndexError(f"{self._folder} holds no point {point}")
        return _to_array(records[0].vector[layer])

    def nearest(
        self, vector: Vector, layer: str, *, top: int, where: Where = EVERYTHING, exact: bool = False
    ) -> list[Hit]:
        found = self._query(vector, layer, top, where, exact, with_payload=True)
        return list(map(_hit, found))

    def rank(
        self, vector: Vector, layer: str, *, top: int, where: Where = EVERYTHING, exact: bool = False
    ) -> list[UUID]:
        return [point.id for point in self._query(vector, layer, top, where, exact, with_payload=False)]

    def fused(
        self, vectors: Mapping[str, Vector], *, top: int, where: Where = EVERYTHING, exact: bool = False
    ) -> list[Hit]:
        depth = fusion_depth(top)
        request = qdrant.QueryRequest(
            limit=top,
            query=qdrant.Fusion.Rrf(k=RANK_FUSION),
            prefetches=[
                qdrant.Prefetch(
                    limit=depth,
                    query=qdrant.Query.Nearest(vector.astype("float32", copy=False), using=layer),
                    filter=_filter(where),
                    params=_search_params(exact=exact),
                )
                for layer, vector in vectors.items()
            ],
            with_payload=True,
        )
        with _engine_errors(self._folder):
            return list(map(_hit, self._shard.query(request)))

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
        examples = qdrant.RecommendQuery(
            positives=[vector.astype("float32", copy=False) for vector in more],
            negatives=[vector.astype("float32", copy=False) for vector in less],
        )
        request = qdrant.QueryRequest(
            limit=top,
            query=qdrant.Query.RecommendBestScore(examples, using=layer),
            filter=_filter(where),
            params=_search_params(exact=exact),
            with_payload=True,
        )
        with _engine_errors(self._folder):
            return list(map(_hit, self._shard.query(request)))

    def _query(
        self, vector: Vector, layer: str, top: int, where: Where, exact: bool, *, with_payload: bool
    ) -> list[qdrant.ScoredPoint]:
        request = qdrant.QueryRequest(
            limit=top,
            query=qdrant.Query.Nearest(vector.astype("float32", copy=False), using=layer),
            filter=_filter(where),
            params=_search_params(exact=exact),
            with_payload=with_payload,
        )
        with _engine_errors(self._folder):
            return list(self._shard.query(request))

    def scroll(self, where: Where = EVERYTHING, *, start: UUID | None = None) -> Iterator[tuple[UUID, Payload]]:
        offset: Any = start
        condition = _filter(where)
        while True:
            request = qdrant.ScrollRequest(offset=offset, limit=_SCROLL, filter=condition, with_payload=True)
            with _engine_errors(self._folder):
                records, offset = self._shard.scroll(request)
            yield from ((record.id, Payload.from_dict(record.payload)) for record in records)
            if offset is None:
                return

    def points(self, after: UUID | None = None) -> Iterator[Point]:
        offset: Any = after
        while True:
            request = qdrant.ScrollRequest(offset=offset, limit=_SCROLL_VECTORS, with_payload=True, with_vector=True)
            with _engine_errors(self._folder):
                records, offset = self._shard.scroll(request)
            for record in records:
                if record.id != after:  # an offset is the first point of a page
                    vectors = {layer: _to_array(vector) for layer, vector in record.vector.items()}
                    yield Point(record.id, Payload.from_dict(record.payload), vectors)
            if offset is None:
                return

    def count(self, where: Where = EVERYTHING) -> int:
        with _engine_errors(self._folder):
            return int(self._shard.count(qdrant.CountRequest(exact=True, filter=_filter(where))))

    def facet(self, keyword: str) -> dict[str, int]:
        with _engine_errors(self._folder):
            hits = self._shard.facet(qdrant.FacetRequest(keyword, limit=100_000, exact=True)).hits
        return {str(hit.value): int(hit.count) for hit in hits}

    def flush(self) -> None:
        self._require_space(0)
        with _engine_errors(self._folder):
            self._shard.flush()

    def keep_up(self) -> None:
        if self._added_bytes >= KEEP_UP_BYTES:
            with suppress(DiskFullError):  # raised by the optimize that ends the job, after everything is stored
                self.optimize()

    def optimize(self, told: Callable[[Statistics], None] = lambda _: None) -> None:
        # Segments are rebuilt beside the old ones before those go.
        self._require_space(_bytes_on_disk(self._folder / "shard"))
        with _engine_errors(self._folder):
            self._shard.optimize()
            self._shard.flush()
        self._added_bytes = 0
        told(self.statistics())

    def statistics(self) -> Statistics:
        with _engine_errors(self._folder):
            info = self._shard.info()
        vectors = int(info.points_count) * len(self.description.layers)
        indexed = min(int(info.indexed_vectors_count), vectors)
        complete = graph_is_complete(
            int(info.points_count), indexed, self.description.dimensions, INDEXING_THRESHOLD_KB
        )
        size = _bytes_on_disk(self._folder / "shard")
        return Statistics(int(info.points_count), vectors, indexed, complete, size)

    def update_description(self, *, roots: Sequence[str], model_path: str, viewer_url: str = "") -> None:
        viewer_url = viewer_url or self.description.viewer_url
        changed = replace(self.description, roots=tuple(roots), model_path=model_path, viewer_url=viewer_url)
        if changed != self.description:
            write_description(self._folder, changed)
            self.description = changed

    def replace_root(self, number: int, address: str) -> None:
        roots = list(self.description.roots)
        roots[number] = address
        self.update_description(roots=roots, model_path=self.description.model_path)

    def close(self) -> None:
        try:
            if self._answering:
                self._answering.stop()
        finally:
            try:
                if self._loaded:
                    with _engine_errors(self._folder):
                        self._loaded.close()
            finally:
                self._lock.release()

    @property
    def _shard(self) -> qdrant.EdgeShard:
        """The shard, loaded when it is first needed: a job with nothing to do need not wait for it."""
        with self._loading, _engine_errors(self._folder):  # threads that answer others may come at once
            if self._loaded is None:
                # One made by an earlier version is told how large its graphs are now.
                config = _config(self.description) if isinstance(self._lock, IndexLock) else None
                self._loaded = qdrant.EdgeShard.load(str(self._path), config)
            return self._loaded

    def _make_shard(self) -> None:
        """Make the shard beside its place and move it there whole: a half-made one is never taken for a lost one."""
        partial = self._folder / "shard.partial"
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir()
        shard = qdrant.EdgeShard.create(str(partial), _config(self.description))
        # Before the points: a graph that was built without them loses recall under a filter.
        _index_keywords(shard)
        shard.close()
        partial.rename(self._path)

    def _require_space(self, needed: int) -> None:
        free = shutil.disk_usage(self._path.parent).free
        required = MIN_FREE_BYTES + needed
        if free < required:
            raise DiskFullError(
                f"only {free / 2**20:,.0f} MB are free under {self._folder}, {required / 2**20:,.0f} MB are needed: "
                "make room and run the same command again; everything stored so far is kept"
            )


def has_shard(folder: Path) -> bool:
    """Whether the engine's files are in an index folder."""
    return (folder / "shard" / "edge_config.json").exists()


def _index_keywords(shard: qdrant.EdgeShard) -> None:
    for keyword in KEYWORDS:
        shard.update(qdrant.UpdateOperation.create_field_index(keyword, qdrant.PayloadSchemaType.Keyword))


def _config(description: Description) -> qdrant.EdgeConfig:
    vectors = {
        layer: qdrant.EdgeVectorParams(
            size=values,
            distance=qdrant.Distance.Dot if layer in description.dot_layers else qdrant.Distance.Euclid,
            datatype=qdrant.VectorStorageDatatype.Float16,
            memory=qdrant.Memory.Cold,
        )
        for layer, values in description.dimensions.items()
    }
    return qdrant.EdgeConfig(
        vectors=vectors,
        quantization_config=_quantization(description.quantization),
        optimizers=qdrant.EdgeOptimizersConfig(
            indexing_threshold=INDEXING_THRESHOLD_KB,
            max_segment_size=LARGEST_SEGMENT_KB,
            default_segment_number=SEGMENTS,
        ),
    )


def _quantization(name: Quantization) -> Any:
    match name:
        case "turbo4":
            bits = qdrant.TurboQuantBitSize.Bits4
            return qdrant.TurboQuantQuantizationConfig(bits=bits, memory=qdrant.Memory.Pinned)
        case "int8":
            return qdrant.ScalarQuantizationConfig(type=qdrant.ScalarType.Int8, memory=qdrant.Memory.Pinned)
        case "none":
            return None


def _search_params(*, exact: bool) -> qdrant.SearchParams:
    quantization = qdrant.QuantizationSearchParams(ignore=exact, rescore=True, oversampling=OVERSAMPLING)
    return qdrant.SearchParams(hnsw_ef=GRAPH_CANDIDATES, exact=exact, quantization=quantization)


def _hit(point: qdrant.ScoredPoint) -> Hit:
    return Hit(point.id, float(point.score), Payload.from_dict(point.payload))


def _to_array(values: Sequence[float]) -> Vector:
    return np.asarray(values, dtype=np.float32)


def _lists(vectors: Vector) -> list[list[float]]:
    """Vectors as lists, of which the engine makes points a third faster than of arrays."""
    if vectors.dtype != "float16":
        return list(vectors.tolist())
    return list(_float16_numbers()[np.ascontiguousarray(vectors).view("uint16")].tolist())


@cache
def _float16_numbers() -> Any:
    """Every float16 as a Python number, by its bits: looking it up is three times as fast as making it anew."""
    return np.arange(2**16, dtype=np.uint16).view(np.float16).astype(object)


def _filter(where: Where) -> qdrant.Filter | None:
    must = [_condition(key, values) for key, values in where.must.items()]
    must_not = [_condition(key, values) for key, values in where.must_not.items()]
    if where.exclude_ids:
        must_not.append(qdrant.HasIdCondition(set(where.exclude_ids)))
    return qdrant.Filter(must=must or None, must_not=must_not or None) if must or must_not else None


def _condition(key: str, values: Collection[str]) -> Any:
    match = qdrant.FieldCondition(key, match=qdrant.MatchAny(list(values)))
    return qdrant.Filter(should=[match, qdrant.IsEmptyCondition(key)]) if MISSING in values else match


@contextmanager
def _engine_errors(folder: Path) -> Iterator[None]:
    """Turn the engine's errors, which are all bare ``Exception``, into ours, naming the index."""
    try:
        yield
    except VectorIndexError:
        raise
    except Exception as error:
        raise VectorIndexError(f"the engine of {folder} refused: {error}") from error


def _bytes_on_disk(folder: Path) -> int:
    """Allocated bytes, as sparse files of the engine are larger by name than on disk."""
    size = 0
    for file in folder.rglob("*"):
        with suppress(FileNotFoundError):  # one that the engine has replaced meanwhile
            size += file.stat().st_blocks * 512 if file.is_file() else 0
    return size
