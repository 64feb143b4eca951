from __future__ import annotations

import logging
import threading
import time

import grpc
import numpy as np
import pytest

from index import opening
from index.address import ServerAddress, parse_address
from index.engines import server as engine
from index.engines.collection import make_collection
from index.engines.connection import Connection, connect
from index.engines.layout import Layout
from index.engines.server import ServerIndex
from index.engines.snapshot import make_snapshot
from index.schema import KEYWORDS
from model.errors import NotAnIndexError, VectorIndexError
from tests.index.conftest import describe, make_points
from tests.support.stand_in.service import Fault, StandIn, cut, refuse


def address(server: StandIn) -> ServerAddress:
    return ServerAddress("127.0.0.1", 1, server.port, tls=False, collection="scans")


def open_index(server: StandIn, patience: tuple[float, float] = (5, 20), **changes: object) -> ServerIndex:
    where, client = address(server), connect(address(server))
    make_collection(client, where.collection, describe(**changes), Layout())
    return ServerIndex(Connection(client, str(where)), where.collection, str(where), patience=patience)


def test_vectors_go_over_the_wire_in_requests_of_bounded_size(server: StandIn) -> None:
    points = make_points(600, layers=("fcl1", "fcl2"), width=4096)
    with open_index(server, layers=("fcl1", "fcl2"), width=4096) as index:
        index.upsert(points)
        assert index.count() == 600
    assert len(server.upserts) == 6  # 112 points of two layers a request
    assert max(server.upserts) < 4 * 2**20
    stored = server.collections["scans"].shard.retrieve([points[77].id], True, True)[0]
    assert set(stored.vector) == {"fcl1", "fcl2"}
    assert np.array_equal(np.array(stored.vector["fcl2"], np.float32), points[77].vectors["fcl2"].astype(np.float32))
    assert stored.payload == points[77].payload.to_dict()


def test_keyword_indexes_come_before_points_and_the_graph_after_them(server: StandIn) -> None:
    with open_index(server) as index:
        index.upsert(make_points(3))
        index.upsert(make_points(3, seed=1))
        index.optimize()
    assert [call.split()[1] for call in server.log if call.startswith("CreateFieldIndex")] == list(KEYWORDS)
    calls = [call for call in server.log if call.startswith(("Create", "Update", "Upsert"))]
    last = len(KEYWORDS)
    assert calls[last + 1 :] == ["Update threshold 0", "Upsert", "Upsert", "Update threshold 20000"]


def test_a_build_that_is_under_way_is_not_begun_anew(server: StandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    # A real server cuts builds off at every update of its optimizers, also if it changes nothing.
    monkeypatch.setattr(engine, "_POLL_SECONDS", 0.0)
    monkeypatch.setattr(engine, "_REMINDED_POLLS", 2)
    with open_index(server) as index:
        index.upsert(make_points(3))
        server.building = 20
        index.optimize()
        assert server.log.count("Update threshold 20000") == 1
        server.building = 20
        server.collections["scans"].config.optimizer_config.indexing_threshold = 0  # by another job
        index.optimize()
    assert server.log.count("Update threshold 20000") == 2


def test_many_make_one_collection(server: StandIn) -> None:
    failed: list[BaseException] = []

    def make() -> None:
        try:
            open_index(server).close()
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=make) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed
    assert server.log.count("Create") == 6
    assert server.log.index("Get") > server.log.index("Create")


@pytest.mark.parametrize(
    "fault",
    [
        refuse(grpc.StatusCode.UNAVAILABLE),
        refuse(grpc.StatusCode.RESOURCE_EXHAUSTED),
        refuse(grpc.StatusCode.DEADLINE_EXCEEDED),
        refuse(grpc.StatusCode.INTERNAL, "Service internal error: 1 of 1 read operations failed"),
        cut,
    ],
    ids=["unavailable", "exhausted", "deadline", "a node away", "cut"],
)
def test_a_passing_fault_delays_an_upsert_and_loses_nothing(
    server: StandIn, fault: Fault, caplog: pytest.LogCaptureFixture
) -> None:
    points = make_points(300)
    with open_index(server) as index, caplog.at_level(logging.WARNING, "cbmir.index"):
        server.faults = [fault]
        index.upsert(points)
        assert index.count() == 300
    assert server.count("scans") == 300
    assert "trying again in" in caplog.text


def test_the_servers_wish_is_waited_for(server: StandIn) -> None:
    with open_index(server) as index:
        server.faults = [refuse(grpc.StatusCode.RESOURCE_EXHAUSTED, "slow down", retry_after="3")]
        started = time.monotonic()
        with pytest.warns(UserWarning, match="Waiting for 3 seconds"):  # the client's own wait
            index.upsert(make_points(2))
        assert time.monotonic() - started >= 3
        server.read_faults = [refuse(grpc.StatusCode.RESOURCE_EXHAUSTED, "slow down", retry_after="2")]
        started = time.monotonic()
        assert index.count() == 2
        assert time.monotonic() - started >= 2


@pytest.mark.parametrize(
    ("code", "details", "message"),
    [
        (grpc.StatusCode.INTERNAL, "Service internal error: No space left on device", "No space left"),
        (grpc.StatusCode.INVALID_ARGUMENT, "Vector dimension error", "refused: Vector dimension error"),
        (grpc.StatusCode.UNAUTHENTICATED, "Invalid API key", "refuses the API key: set CBMIR_INDEX_API_KEY"),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, "Received message larger than max", "larger than max"),
    ],
)
def test_what_does_not_pass_is_not_tried_again(
    server: StandIn, code: grpc.StatusCode, details: str, message: str
) -> None:
    with open_index(server) as index:
        server.faults = [refuse(code, details)]
        with pytest.raises(VectorIndexError, match=message):
            index.upsert(make_points(2))
    assert len(server.upserts) == 1


def test_a_job_waits_in_reads_too(server: StandIn) -> None:
    with open_index(server, patience=(5, 5)) as index:
        server.read_faults = [refuse(grpc.StatusCode.UNAVAILABLE)] * 2
        assert index.count() == 0


def test_of_several_entry_nodes_any_that_lives_serves(server: StandIn) -> None:
    other = StandIn(beside=server)
    hosts = ",".join(f"127.0.0.1:{one.port - 1}" for one in (server, other))
    nodes = parse_address(f"http://{hosts}/scans")
    points = make_points(30)
    with opening.create_index(nodes, describe(), purpose="test") as index:
        index.upsert(points[:10])
        server.stop()  # the one that is asked
        index.upsert(points[10:20])
        assert index.count() == 20
        assert len(list(index.scroll())) == 20
        assert "Upsert" in other.log
    with opening.open_index(nodes, purpose="test") as index:  # and while it is away
        assert index.count() == 20
        server.start()
        other.stop()
        index.upsert(points[20:])
        assert index.count() == 30
    server.stop()


def test_a_collection_of_another_program_is_not_touched(server: StandIn) -> None:
    client = connect(address(server))
    client.create_collection("scans", vectors_config={})
    with pytest.raises(NotAnIndexError, match="no index of cbmir"):
        make_collection(client, "scans", describe(), Layout())
    client.close()
    assert not [call for call in server.log if call.startswith("CreateFieldIndex")]


def test_patience_ends(server: StandIn) -> None:
    with open_index(server, patience=(1, 2)) as index:
        server.faults = [refuse(grpc.StatusCode.UNAVAILABLE, "down")] * 50
        with pytest.raises(VectorIndexError, match=r"http://127\.0\.0\.1:1/scans.* cannot be reached.*down"):
            index.upsert(make_points(2))
        assert server.faults


def test_a_collection_that_is_missing_or_of_another_program_is_named(server: StandIn) -> None:
    client, where = connect(address(server)), address(server)
    with pytest.raises(NotAnIndexError, match="does not exist: make an index with"):
        ServerIndex(Connection(client, "absent"), "absent", str(where))
    client.create_collection("theirs", vectors_config={})
    with pytest.raises(NotAnIndexError, match="a collection, but no index of cbmir"):
        ServerIndex(Connection(client, "theirs"), "theirs", str(where))
    client.close()


def test_a_snapshot_is_the_servers_own(server: StandIn) -> None:
    with pytest.raises(NotAnIndexError, match="does not exist"):
        make_snapshot(address(server))
    with open_index(server) as index:
        index.upsert(make_points(3))
    assert make_snapshot(address(server)) == "scans-3.snapshot"
