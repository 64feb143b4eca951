"""The stand-in's gRPC services, and the faults by which a test injures its connections."""

from __future__ import annotations

import shutil
import tempfile
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from pathlib import Path
from typing import Any

import grpc
import qdrant_edge as edge
from qdrant_client.conversions.conversion import grpc_to_payload, payload_to_grpc
from qdrant_client.grpc import (
    BatchResult,
    CollectionConfig,
    CollectionDescription,
    CollectionExists,
    CollectionExistsResponse,
    CollectionInfo,
    CollectionOperationResponse,
    CollectionParams,
    CollectionStatus,
    CountResponse,
    CountResult,
    CreateSnapshotResponse,
    FacetHit,
    FacetResponse,
    FacetValue,
    Filter,
    GetCollectionInfoResponse,
    GetResponse,
    HealthCheckReply,
    HnswConfigDiff,
    ListCollectionsResponse,
    OptimizersConfigDiff,
    PointsOperationResponse,
    QueryBatchResponse,
    QueryResponse,
    RetrievedPoint,
    ScoredPoint,
    ScrollResponse,
    SnapshotDescription,
    UpdateResult,
    UpdateStatus,
    WalConfigDiff,
)
from qdrant_client.grpc import collections_service_pb2_grpc as collections_service
from qdrant_client.grpc import points_service_pb2_grpc as points_service
from qdrant_client.grpc import qdrant_pb2_grpc as root_service
from qdrant_client.grpc import snapshots_service_pb2_grpc as snapshots_service

from tests.support.stand_in.shards import (
    SETTINGS,
    Collection,
    edge_filter,
    edge_ids,
    edge_points,
    edge_query,
    selected,
    wire_id,
    wire_vectors,
)

LARGE_ANSWERS = [("grpc.max_send_message_length", -1)]

Fault = Callable[["StandIn", grpc.ServicerContext], None]
"""Happens instead of an upsert, or, if it returns, before it."""


class StandIn:
    """A server on a port of this machine.

    Args:
        discards: throw away what is upserted.
        beside: another node of the same cluster, that holds the same.
        folder: of the collections, opened as they were left; a temporary one if none is given.
        port: of gRPC; a free one if it is 0.

    Attributes:
        faults: for the next upserts of an index's points, one each; ``read_faults`` for the next counts.
        upserts: sizes in bytes of all upserts of an index's points that came, also of those that failed.
        log: names of all calls that have to do with an index's points.
        building: for so many more questions the graph is not complete yet.
        version: that it says it has; ``key`` that it asks for.
        collections: by name.
    """

    def __init__(
        self, *, discards: bool = False, beside: StandIn | None = None, folder: Path | None = None, port: int = 0
    ) -> None:
        self.discards = discards
        self.faults: list[Fault] = []
        self.read_faults: list[Fault] = []
        self.upserts: list[int] = []
        self.log: list[str] = []
        self.building = 0
        self.version, self.key = version("qdrant-client"), ""
        self._given, self._beside = folder, beside
        self.folder: Path = beside.folder if beside else folder or Path(tempfile.mkdtemp(prefix="cbmir-stand-in-"))
        self.collections: dict[str, Collection] = beside.collections if beside else {}
        self.lock: threading.Lock = beside.lock if beside else threading.Lock()
        if not beside:
            for config in self.folder.glob(f"*/{SETTINGS}"):
                self.collections[config.parent.name] = Collection(config.parent)
        self.port = port
        self.start()

    def start(self) -> None:
        """Listen, on the same port as before."""
        self._server = grpc.server(ThreadPoolExecutor(8), options=[("grpc.so_reuseport", 0), *LARGE_ANSWERS])
        collections_service.add_CollectionsServicer_to_server(_Collections(self), self._server)
        root_service.add_QdrantServicer_to_server(_Root(self), self._server)
        points_service.add_PointsServicer_to_server(_Points(self), self._server)
        snapshots_service.add_SnapshotsServicer_to_server(_Snapshots(self), self._server)
        self.port = self._server.add_insecure_port(f"127.0.0.1:{self.port}")
        self._server.start()

    def stop(self) -> None:
        """Cut every connection, also one in the middle of a call."""
        self._server.stop(None)

    def discard(self) -> None:
        """Stop it, let go of what it stores, and remove a temporary folder."""
        self._server.stop(None).wait()
        if self._beside:
            return
        for collection in self.collections.values():
            collection.shard.close()
        if not self._given:
            shutil.rmtree(self.folder, ignore_errors=True)

    def count(self, name: str) -> int:
        """Points of a collection."""
        return int(self.collections[name].shard.count(edge.CountRequest(exact=True)))

    def called(self, call: str, name: str) -> None:
        """Enter a call in the log, unless it is about a ledger."""
        if not name.endswith("-ledger"):
            self.log.append(call)

    def find(self, name: str, context: grpc.ServicerContext) -> Collection:
        """A collection, or the call ends."""
        if (found := self.collections.get(name)) is None:
            context.abort(grpc.StatusCode.NOT_FOUND, f"Collection `{name}` doesn't exist!")
            raise AssertionError("abort has raised")
        return found


class _Root(root_service.QdrantServicer):
    def __init__(self, server: StandIn) -> None:
        self._server = server

    def HealthCheck(self, request: Any, context: grpc.ServicerContext) -> HealthCheckReply:
        return HealthCheckReply(title="qdrant - vector search engine", version=self._server.version)


class _Collections(collections_service.CollectionsServicer):
    def __init__(self, server: StandIn) -> None:
        self._server = server

    def Create(self, request: Any, context: grpc.ServicerContext) -> CollectionOperationResponse:
        name = request.collection_name
        self._server.called("Create", name)
        with self._server.lock:
            if name in self._server.collections:
                time.sleep(0.05)
                context.abort(grpc.StatusCode.ALREADY_EXISTS, f"Collection `{name}` already exists!")
            config = CollectionConfig(
                params=CollectionParams(vectors_config=request.vectors_config, shard_number=request.shard_number),
                hnsw_config=HnswConfigDiff(m=16, ef_construct=100, full_scan_threshold=10_000),
                optimizer_config=OptimizersConfigDiff(
                    deleted_threshold=0.2, vacuum_min_vector_number=1000, default_segment_number=0, flush_interval_sec=5
                ),
                wal_config=WalConfigDiff(wal_capacity_mb=32, wal_segments_ahead=0),
                metadata=request.metadata,
            )
            if request.HasField("quantization_config"):
                config.quantization_config.CopyFrom(request.quantization_config)
            self._server.collections[name] = Collection(self._server.folder / name, config)
        return CollectionOperationResponse(result=True)

    def CollectionExists(self, request: Any, context: grpc.ServicerContext) -> CollectionExistsResponse:
        if self._server.key and dict(context.invocation_metadata()).get("api-key") != self._server.key:
            context.abort(grpc.StatusCode.UNAUTHENTICATED, "Must provide an API key")
        exists = request.collection_name in self._server.collections
        return CollectionExistsResponse(result=CollectionExists(exists=exists))

    def List(self, request: Any, context: grpc.ServicerContext) -> ListCollectionsResponse:
        names = [CollectionDescription(name=name) for name in self._server.collections]
        return ListCollectionsResponse(collections=names)

    def Delete(self, request: Any, context: grpc.ServicerContext) -> CollectionOperationResponse:
        with self._server.lock:
            if found := self._server.collections.pop(request.collection_name, None):
                found.drop()
        return CollectionOperationResponse(result=found is not None)

    def Get(self, request: Any, context: grpc.ServicerContext) -> GetCollectionInfoResponse:
        name = request.collection_name
        self._server.called("Get", name)
        found = self._server.find(name, context)
        self._server.building = max(0, self._server.building - 1)
        told = found.shard.info()
        info = CollectionInfo(
            status=CollectionStatus.Yellow if self._server.building else CollectionStatus.Green,
            segments_count=told.segments_count,
            config=found.config,
            points_count=told.points_count,
            indexed_vectors_count=told.indexed_vectors_count,
        )
        return GetCollectionInfoResponse(result=info)

    def Update(self, request: Any, context: grpc.ServicerContext) -> CollectionOperationResponse:
        threshold = request.optimizers_config.indexing_threshold
        self._server.called(f"Update threshold {threshold}", request.collection_name)
        found = self._server.find(request.collection_name, context)
        found.config.optimizer_config.MergeFrom(request.optimizers_config)
        for key, value in request.metadata.items():
            found.config.metadata[key].CopyFrom(value)
        found.save()
        if threshold and not self._server.discards:
            found.shard.optimize()
        return CollectionOperationResponse(result=True)


class _Snapshots(snapshots_service.SnapshotsServicer):
    def __init__(self, server: StandIn) -> None:
        self._server = server

    def Create(self, request: Any, context: grpc.ServicerContext) -> CreateSnapshotResponse:
        name = request.collection_name
        self._server.find(name, context)
        snapshot = SnapshotDescription(name=f"{name}-{self._server.count(name)}.snapshot")
        return CreateSnapshotResponse(snapshot_description=snapshot)


class _Points(points_service.PointsServicer):
    def __init__(self, server: StandIn) -> None:
        self._server = server

    def CreateFieldIndex(self, request: Any, context: grpc.ServicerContext) -> PointsOperationResponse:
        self._server.called(f"CreateFieldIndex {request.field_name}", request.collection_name)
        found = self._server.find(request.collection_name, context)
        found.update(edge.UpdateOperation.create_field_index(request.field_name, edge.PayloadSchemaType.Keyword))
        return _done()

    def Upsert(self, request: Any, context: grpc.ServicerContext) -> PointsOperationResponse:
        name = request.collection_name
        self._server.called("Upsert", name)
        found = self._server.find(name, context)
        if not name.endswith("-ledger"):
            self._server.upserts.append(request.ByteSize())
            if self._server.faults:
                self._server.faults.pop(0)(self._server, context)
        if not self._server.discards:
            condition = edge_filter(request.update_filter) if request.HasField("update_filter") else None
            found.update(edge.UpdateOperation.upsert_points(edge_points(request.points), condition))
        return _done()

    def Delete(self, request: Any, context: grpc.ServicerContext) -> PointsOperationResponse:
        found = self._server.find(request.collection_name, context)
        found.update(edge.UpdateOperation.delete_points(edge_ids(request.points.points.ids)))
        return _done()

    def OverwritePayload(self, request: Any, context: grpc.ServicerContext) -> PointsOperationResponse:
        found = self._server.find(request.collection_name, context)
        ids = edge_ids(request.points_selector.points.ids)
        found.update(edge.UpdateOperation.overwrite_payload(ids, grpc_to_payload(request.payload)))
        return _done()

    def SetPayload(self, request: Any, context: grpc.ServicerContext) -> PointsOperationResponse:
        found = self._server.find(request.collection_name, context)
        ids = edge_ids(request.points_selector.points.ids)
        found.update(edge.UpdateOperation.set_payload(ids, grpc_to_payload(request.payload)))
        return _done()

    def Get(self, request: Any, context: grpc.ServicerContext) -> GetResponse:
        found = self._server.find(request.collection_name, context)
        ids, vectors = edge_ids(request.ids), selected(request.with_vectors)
        return GetResponse(result=map(_retrieved, found.shard.retrieve(ids, request.with_payload.enable, vectors)))

    def Query(self, request: Any, context: grpc.ServicerContext) -> QueryResponse:
        return QueryResponse(result=self._scored(request, context))

    def QueryBatch(self, request: Any, context: grpc.ServicerContext) -> QueryBatchResponse:
        return QueryBatchResponse(
            result=[BatchResult(result=self._scored(one, context)) for one in request.query_points]
        )

    def _scored(self, request: Any, context: grpc.ServicerContext) -> list[ScoredPoint]:
        found = self._server.find(request.collection_name, context)
        return [
            ScoredPoint(id=wire_id(one.id), score=one.score, payload=payload_to_grpc(one.payload or {}))
            for one in found.shard.query(edge_query(request, _filter(request)))
        ]

    def Scroll(self, request: Any, context: grpc.ServicerContext) -> ScrollResponse:
        found, wanted = self._server.find(request.collection_name, context), _filter(request)
        records, following = found.shard.scroll(
            edge.ScrollRequest(
                offset=edge_ids([request.offset])[0] if request.HasField("offset") else None,
                limit=request.limit,
                filter=edge_filter(wanted) if wanted is not None else None,
                with_payload=request.with_payload.enable,
                with_vector=selected(request.with_vectors),
            )
        )
        offset = wire_id(following) if following is not None else None
        return ScrollResponse(result=map(_retrieved, records), next_page_offset=offset)

    def Count(self, request: Any, context: grpc.ServicerContext) -> CountResponse:
        if self._server.read_faults:
            self._server.read_faults.pop(0)(self._server, context)
        found, wanted = self._server.find(request.collection_name, context), _filter(request)
        condition = edge_filter(wanted) if wanted is not None else None
        count = found.shard.count(edge.CountRequest(exact=request.exact, filter=condition))
        return CountResponse(result=CountResult(count=count))

    def Facet(self, request: Any, context: grpc.ServicerContext) -> FacetResponse:
        found = self._server.find(request.collection_name, context)
        hits = found.shard.facet(edge.FacetRequest(request.key, limit=request.limit, exact=request.exact)).hits
        return FacetResponse(
            hits=[FacetHit(value=FacetValue(string_value=str(hit.value)), count=hit.count) for hit in hits]
        )


def _filter(request: Any) -> Filter | None:
    return request.filter if request.HasField("filter") else None


def _retrieved(record: edge.Record) -> RetrievedPoint:
    point = RetrievedPoint(id=wire_id(record.id), payload=payload_to_grpc(record.payload or {}))
    if record.vector:
        point.vectors.CopyFrom(wire_vectors(record.vector))
    return point


def refuse(code: grpc.StatusCode, details: str = "injured", **trailing: str) -> Fault:
    """A fault that answers with a status, and trailing metadata such as ``retry_after``."""

    def fault(_server: StandIn, context: grpc.ServicerContext) -> None:
        context.set_trailing_metadata(tuple((key.replace("_", "-"), value) for key, value in trailing.items()))
        context.abort(code, details)

    return fault


def cut(server: StandIn, _context: grpc.ServicerContext) -> None:
    """A fault that cuts the connection in the middle of the upsert; the server comes back after a second."""

    def restart() -> None:
        server.stop()
        threading.Timer(1.0, server.start).start()

    threading.Thread(target=restart).start()
    threading.Event().wait(0.5)


def _done() -> PointsOperationResponse:
    return PointsOperationResponse(result=UpdateResult(operation_id=1, status=UpdateStatus.Completed))
