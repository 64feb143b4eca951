"""A stand-in for a Qdrant server at the other end of a real gRPC connection, to injure that connection.

Behind the wire is the client's local mode: what a server stores, filters and quantizes is tested on a real one.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from typing import Any

import grpc
from qdrant_client import QdrantClient
from qdrant_client.conversions.conversion import GrpcToRest, RestToGrpc, grpc_to_payload
from qdrant_client.grpc import (
    CollectionConfig,
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
    GetCollectionInfoResponse,
    GetResponse,
    HealthCheckReply,
    HnswConfigDiff,
    OptimizersConfigDiff,
    PointsOperationResponse,
    QueryResponse,
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

LARGE_ANSWERS = [("grpc.max_send_message_length", -1)]

Fault = Callable[["StandIn", grpc.ServicerContext], None]
"""Happens instead of an upsert, or, if it returns, before it."""


class StandIn:
    """A server on a port of this machine.

    Args:
        discards: throw away what is upserted.
        beside: another node of the same cluster, that holds the same.

    Attributes:
        faults: for the next upserts, one each; ``read_faults`` for the next counts.
        upserts: sizes in bytes of all upserts that came, also of those that failed.
        log: names of all calls.
        building: for so many more questions the graph is not complete yet.
        version: that it says it has; ``key`` that it asks for.
        local: what holds the points.
    """

    def __init__(self, *, discards: bool = False, beside: StandIn | None = None) -> None:
        self.discards = discards
        self.faults: list[Fault] = []
        self.read_faults: list[Fault] = []
        self.upserts: list[int] = []
        self.log: list[str] = []
        self.building = 0
        self.version, self.key = version("qdrant-client"), ""
        self.local: QdrantClient = beside.local if beside else QdrantClient(":memory:")
        self.configs: dict[str, CollectionConfig] = beside.configs if beside else {}
        self.lock: threading.Lock = beside.lock if beside else threading.Lock()
        self.port = 0
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


class _Root(root_service.QdrantServicer):
    def __init__(self, server: StandIn) -> None:
        self._server = server

    def HealthCheck(self, request: Any, context: grpc.ServicerContext) -> HealthCheckReply:
        return HealthCheckReply(title="qdrant - vector search engine", version=self._server.version)


class _Collections(collections_service.CollectionsServicer):
    def __init__(self, server: StandIn) -> None:
        self._server = server

    def Create(self, request: Any, context: grpc.ServicerContext) -> CollectionOperationResponse:
        self._server.log.append("Create")
        name = request.collection_name
        with self._server.lock:
            if name in self._server.configs:
                time.sleep(0.05)
                context.abort(grpc.StatusCode.ALREADY_EXISTS, f"Collection `{name}` already exists!")
            self._server.local.create_collection(name, GrpcToRest.convert_vectors_config(request.vectors_config))
            self._server.configs[name] = CollectionConfig(
                params=CollectionParams(vectors_config=request.vectors_config, shard_number=request.shard_number),
                hnsw_config=HnswConfigDiff(m=16, ef_construct=100, full_scan_threshold=10_000),
                optimizer_config=OptimizersConfigDiff(
                    deleted_threshold=0.2, vacuum_min_vector_number=1000, default_segment_number=0, flush_interval_sec=5
                ),
                wal_config=WalConfigDiff(wal_capacity_mb=32, wal_segments_ahead=0),
                metadata=request.metadata,
            )
        return CollectionOperationResponse(result=True)

    def CollectionExists(self, request: Any, context: grpc.ServicerContext) -> CollectionExistsResponse:
        if self._server.key and dict(context.invocation_metadata()).get("api-key") != self._server.key:
            context.abort(grpc.StatusCode.UNAUTHENTICATED, "Must provide an API key")
        return CollectionExistsResponse(result=CollectionExists(exists=request.collection_name in self._server.configs))

    def Get(self, request: Any, context: grpc.ServicerContext) -> GetCollectionInfoResponse:
        self._server.log.append("Get")
        self._server.building = max(0, self._server.building - 1)
        name = request.collection_name
        if (config := self._server.configs.get(name)) is None:
            context.abort(grpc.StatusCode.NOT_FOUND, f"Collection `{name}` doesn't exist!")
        info = CollectionInfo(
            status=CollectionStatus.Yellow if self._server.building else CollectionStatus.Green,
            segments_count=2,
            config=config,
            points_count=self._server.local.count(name).count,
        )
        return GetCollectionInfoResponse(result=info)

    def Update(self, request: Any, context: grpc.ServicerContext) -> CollectionOperationResponse:
        self._server.log.append(f"Update threshold {request.optimizers_config.indexing_threshold}")
        config = self._server.configs[request.collection_name]
        config.optimizer_config.MergeFrom(request.optimizers_config)
        for key, value in request.metadata.items():
            config.metadata[key].CopyFrom(value)
        return CollectionOperationResponse(result=True)


class _Snapshots(snapshots_service.SnapshotsServicer):
    def __init__(self, server: StandIn) -> None:
        self._server = server

    def Create(self, request: Any, context: grpc.ServicerContext) -> CreateSnapshotResponse:
        name = request.collection_name
        if name not in self._server.configs:
            context.abort(grpc.StatusCode.NOT_FOUND, f"Collection `{name}` doesn't exist!")
        snapshot = SnapshotDescription(name=f"{name}-{self._server.local.count(name).count}.snapshot")
        return CreateSnapshotResponse(snapshot_description=snapshot)


class _Points(points_service.PointsServicer):
    def __init__(self, server: StandIn) -> None:
        self._server, self._local = server, server.local

    def CreateFieldIndex(self, request: Any, context: grpc.ServicerContext) -> PointsOperationResponse:
        self._server.log.append(f"CreateFieldIndex {request.field_name}")
        return _done()

    def Upsert(self, request: Any, context: grpc.ServicerContext) -> PointsOperationResponse:
        self._server.log.append("Upsert")
        self._server.upserts.append(request.ByteSize())
        if self._server.faults:
            self._server.faults.pop(0)(self._server, context)
        if not self._server.discards:
            self._local.upsert(request.collection_name, [GrpcToRest.convert_point_struct(p) for p in request.points])
        return _done()

    def Delete(self, request: Any, context: grpc.ServicerContext) -> PointsOperationResponse:
        self._local.delete(request.collection_name, GrpcToRest.convert_points_selector(request.points))
        return _done()

    def OverwritePayload(self, request: Any, context: grpc.ServicerContext) -> PointsOperationResponse:
        selector = GrpcToRest.convert_points_selector(request.points_selector)
        self._local.overwrite_payload(request.collection_name, grpc_to_payload(request.payload), selector)
        return _done()

    def Get(self, request: Any, context: grpc.ServicerContext) -> GetResponse:
        records = self._local.retrieve(
            request.collection_name,
            [GrpcToRest.convert_point_id(point) for point in request.ids],
            with_payload=request.with_payload.enable,
            with_vectors=_vectors(request.with_vectors),
        )
        return GetResponse(result=[RestToGrpc.convert_retrieved_point(_with_payload(record)) for record in records])

    def Query(self, request: Any, context: grpc.ServicerContext) -> QueryResponse:
        found = self._local.query_points(
            request.collection_name,
            GrpcToRest.convert_query(request.query),
            prefetch=[GrpcToRest.convert_prefetch_query(prefetch) for prefetch in request.prefetch] or None,
            using=request.using or None,
            limit=request.limit,
            query_filter=_filter(request, "filter"),
            with_payload=request.with_payload.enable,
        )
        return QueryResponse(result=[RestToGrpc.convert_scored_point(_with_payload(point)) for point in found.points])

    def Scroll(self, request: Any, context: grpc.ServicerContext) -> ScrollResponse:
        records, following = self._local.scroll(
            request.collection_name,
            scroll_filter=_filter(request, "filter"),
            limit=request.limit,
            offset=GrpcToRest.convert_point_id(request.offset) if request.HasField("offset") else None,
            with_payload=request.with_payload.enable,
            with_vectors=_vectors(request.with_vectors),
        )
        return ScrollResponse(
            result=[RestToGrpc.convert_retrieved_point(_with_payload(record)) for record in records],
            next_page_offset=RestToGrpc.convert_extended_point_id(following) if following is not None else None,
        )

    def Count(self, request: Any, context: grpc.ServicerContext) -> CountResponse:
        if self._server.read_faults:
            self._server.read_faults.pop(0)(self._server, context)
        found = self._local.count(request.collection_name, _filter(request, "filter"), exact=request.exact)
        return CountResponse(result=CountResult(count=found.count))

    def Facet(self, request: Any, context: grpc.ServicerContext) -> FacetResponse:
        found = self._local.facet(request.collection_name, request.key, limit=request.limit, exact=request.exact)
        return FacetResponse(
            hits=[FacetHit(value=FacetValue(string_value=str(hit.value)), count=hit.count) for hit in found.hits]
        )


def _filter(request: Any, name: str) -> Any:
    return GrpcToRest.convert_filter(getattr(request, name)) if request.HasField(name) else None


def _with_payload(point: Any) -> Any:
    """The client's conversions know no point without a payload."""
    point.payload = point.payload or {}
    return point


def _vectors(selector: Any) -> bool | list[str]:
    return list(selector.include.names) if selector.HasField("include") else bool(selector.enable)


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
