"""A stand-in for a Qdrant server at the other end of a real gRPC connection, to injure that connection.

It keeps what collections say of themselves and the points that were upserted, and no more: what a server answers to
searches is tested on a real one.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
from qdrant_client.grpc import (
    CollectionConfig,
    CollectionInfo,
    CollectionOperationResponse,
    CollectionParams,
    CollectionStatus,
    CountResponse,
    CountResult,
    GetCollectionInfoResponse,
    HnswConfigDiff,
    OptimizersConfigDiff,
    PointsOperationResponse,
    UpdateResult,
    UpdateStatus,
    WalConfigDiff,
)
from qdrant_client.grpc import collections_service_pb2_grpc as collections_service
from qdrant_client.grpc import points_service_pb2_grpc as points_service

Fault = Callable[["StandIn", grpc.ServicerContext], None]
"""Happens instead of an upsert, or, if it returns, before it."""


class StandIn(collections_service.CollectionsServicer, points_service.PointsServicer):
    """A server on a port of this machine.

    Attributes:
        faults: for the next upserts, one each.
        upserts: sizes in bytes of all upserts that came, also of those that failed.
        log: names of all calls.
        vectors: by point id, as they came over the wire.
    """

    def __init__(self, port: int = 0) -> None:
        self.faults: list[Fault] = []
        self.upserts: list[int] = []
        self.log: list[str] = []
        self.vectors: dict[str, dict[str, list[float]]] = {}
        self.payloads: dict[str, dict[str, Any]] = {}
        self._collections: dict[str, CollectionConfig] = {}
        self._server: grpc.Server | None = None
        self.port = port
        self._lock = threading.Lock()
        self.start()

    def start(self) -> None:
        """Listen, on the same port as before."""
        self._server = grpc.server(ThreadPoolExecutor(4), options=[("grpc.so_reuseport", 0)])
        collections_service.add_CollectionsServicer_to_server(self, self._server)  # type: ignore[no-untyped-call] # generated
        points_service.add_PointsServicer_to_server(self, self._server)  # type: ignore[no-untyped-call] # generated
        self.port = self._server.add_insecure_port(f"127.0.0.1:{self.port}")
        self._server.start()

    def stop(self) -> None:
        """Cut every connection, also one in the middle of a call."""
        assert self._server
        self._server.stop(None)

    def Create(self, request: Any, context: grpc.ServicerContext) -> CollectionOperationResponse:  # noqa: N802
        self.log.append("Create")
        with self._lock:
            if request.collection_name in self._collections:
                context.abort(grpc.StatusCode.ALREADY_EXISTS, f"Collection `{request.collection_name}` already exists!")
            self._collections[request.collection_name] = CollectionConfig(
                params=CollectionParams(vectors_config=request.vectors_config, shard_number=request.shard_number),
                hnsw_config=HnswConfigDiff(m=16, ef_construct=100, full_scan_threshold=10_000),
                optimizer_config=OptimizersConfigDiff(
                    deleted_threshold=0.2, vacuum_min_vector_number=1000, default_segment_number=0, flush_interval_sec=5
                ),
                wal_config=WalConfigDiff(wal_capacity_mb=32, wal_segments_ahead=0),
                metadata=request.metadata,
            )
        return CollectionOperationResponse(result=True)

    def Get(self, request: Any, context: grpc.ServicerContext) -> GetCollectionInfoResponse:  # noqa: N802
        self.log.append("Get")
        config = self._collections.get(request.collection_name)
        if config is None:
            context.abort(grpc.StatusCode.NOT_FOUND, f"Collection `{request.collection_name}` doesn't exist!")
        info = CollectionInfo(
            status=CollectionStatus.Green, segments_count=2, config=config, points_count=len(self.vectors)
        )
        return GetCollectionInfoResponse(result=info)

    def Update(self, request: Any, context: grpc.ServicerContext) -> CollectionOperationResponse:  # noqa: N802
        self.log.append(f"Update threshold {request.optimizers_config.indexing_threshold}")
        config = self._collections[request.collection_name]
        config.optimizer_config.MergeFrom(request.optimizers_config)
        for key, value in request.metadata.items():
            config.metadata[key].CopyFrom(value)
        return CollectionOperationResponse(result=True)

    def CreateFieldIndex(self, request: Any, context: grpc.ServicerContext) -> PointsOperationResponse:  # noqa: N802
        self.log.append(f"CreateFieldIndex {request.field_name}")
        return _done()

    def Upsert(self, request: Any, context: grpc.ServicerContext) -> PointsOperationResponse:  # noqa: N802
        self.log.append("Upsert")
        self.upserts.append(request.ByteSize())
        if self.faults:
            self.faults.pop(0)(self, context)
        for point in request.points:
            vectors = point.vectors.vectors.vectors
            self.vectors[point.id.uuid] = {name: list(vectors[name].dense.data) for name in vectors}
            self.payloads[point.id.uuid] = dict(point.payload)
        return _done()

    def Count(self, request: Any, context: grpc.ServicerContext) -> CountResponse:  # noqa: N802
        self.log.append("Count")
        return CountResponse(result=CountResult(count=len(self.vectors)))


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
