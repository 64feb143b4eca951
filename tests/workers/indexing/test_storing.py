from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from ray.exceptions import RayError

from index.address import Address, parse_address
from index.engines.edge import EdgeIndex
from index.engines.server import ServerIndex
from index.ledger import FileKey, FileRecord, Ledger
from index.opening import create_index, open_index
from index.schema import Location, Point, PointBatch
from model.errors import VectorIndexError
from tests.index.conftest import WIDTH, describe, make_points
from tests.support.jobs import small_job
from tests.support.ray_calls import Actors
from tests.support.stand_in.process import StandInProcess
from tests.support.stand_in.service import StandIn
from workers.indexing import sink, storing, storing_actor
from workers.indexing.job import index_archive
from workers.indexing.planning import PendingFile
from workers.indexing.report import JobReport
from workers.indexing.rows import FEATURE, KEPT_AS, KEPT_BY, KEPT_ROW, kept_schema
from workers.indexing.settings import JobObserver
from workers.indexing.sink import Sink, SinkCounts
from workers.indexing.storing import Arrived, StoringBesideEmbedding, StoringHere, start_storing
from workers.indexing.storing_actor import StoringActor


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[StandInProcess]:
    monkeypatch.setenv("CBMIR_STATE", str(tmp_path / "state"))
    with StandInProcess(tmp_path / "server") as process:
        yield process


@pytest.fixture
def address(server: StandInProcess) -> Address:
    """A collection of the server, which is there."""
    there = parse_address(f"http://127.0.0.1:1/x?grpc_port={server.port}")
    create_index(there, describe(), purpose="test").close()
    return there


class Nodes:
    """Storing actors, one on each of Ray's nodes, and tables whose features they keep."""

    def __init__(self, address: Address) -> None:
        import ray

        self.actors = start_storing(address, [str(node["NodeID"]) for node in ray.nodes() if node["Alive"]])
        self.storing = StoringBesideEmbedding(self.actors)
        self.node, self._number = next(iter(self.actors)), 0

    def keep(self, points: Sequence[Point]) -> list[Arrived]:
        """Points of which the features are with an actor, and the rest here."""
        import ray

        self._number += 1
        features = {"fcl1": np.stack([point.vectors["fcl1"] for point in points]).astype(FEATURE)}
        ray.get(self.actors[self.node].keep.options(concurrency_group="keep").remote(self._number, features))
        every = len(points)
        columns = {KEPT_BY: [self.node] * every, KEPT_AS: [self._number] * every, KEPT_ROW: range(every)}
        table = pa.table({name: pa.array(values) for name, values in columns.items()})
        taken = self.storing.take(table)
        return [Arrived(point.id, point.payload, taken, row) for row, point in enumerate(points)]


@pytest.fixture
def nodes(ray_here: None, address: Address) -> Iterator[Nodes]:
    import ray

    started = Nodes(address)
    yield started
    for actor in started.actors.values():
        ray.kill(actor)


def test_what_is_kept_on_a_node_is_stored_by_it(nodes: Nodes, address: Address) -> None:
    points = make_points(60)
    kept = [nodes.keep(points[start : start + 20]) for start in (0, 20, 40)]
    nodes.storing.store([*kept[0], *kept[1][5:]])
    assert nodes.storing.under_way().keys() <= {point.id for point in points}
    nodes.storing.wait()
    assert nodes.storing.under_way() == {}
    with open_index(address, purpose="test") as index:
        assert index.count() == 35
        stored = {point.id: point.vectors["fcl1"] for point in index.points()}
    for point in (points[0], points[39]):
        assert np.array_equal(stored[point.id], point.vectors["fcl1"])
    nodes.storing.store(kept[2])  # it was let go, as one whose process was lost
    with pytest.raises(RayError, match="has ended, with what it had"):
        nodes.storing.wait()


def test_the_last_word_on_a_point_is_stored_last(nodes: Nodes, address: Address) -> None:
    point = make_points(1)[0]
    first, last = (replace(point, payload=replace(point.payload, label=label)) for label in ("first", "last"))
    nodes.storing.store(nodes.keep([first]))
    assert nodes.storing.under_way() == {point.id: first.payload}
    nodes.storing.store(nodes.keep([last]))
    nodes.storing.wait()
    with open_index(address, purpose="test") as index:
        assert index.retrieve([point.id])[point.id].label == "last"


def test_what_a_server_refuses_is_said_from_then_on(nodes: Nodes, address: Address) -> None:
    points = make_points(4)
    with open_index(address, purpose="test") as index:
        index.upsert(points[:1])
    wrong = [replace(point, vectors={"fcl1": point.vectors["fcl1"][:100]}) for point in points]
    nodes.storing.store(nodes.keep(wrong))
    for _ in range(2):
        with pytest.raises(VectorIndexError, match="refused"):
            nodes.storing.wait()
    with pytest.raises(VectorIndexError, match="refused"):
        nodes.storing.store(nodes.keep(points))


def test_a_node_stores_several_blocks_at_once_and_waits_for_a_server_that_is_away(
    nodes: Nodes, address: Address, server: StandInProcess
) -> None:
    points = make_points(80)
    nodes.storing.store(nodes.keep(points[:8]))
    nodes.storing.wait()
    server.kill()
    for start in range(8, 72, 8):  # as many as are taken before one is waited for
        nodes.storing.store(nodes.keep(points[start : start + 8]))
    assert len(nodes.storing.under_way()) > 8
    server.start()
    nodes.storing.wait()
    with open_index(address, purpose="test") as index:
        assert index.count() == 72


def test_those_who_embed_wait_for_room_but_not_for_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(storing_actor, "KEPT_BYTES", 1000)
    monkeypatch.setattr(storing_actor, "ROOM_SECONDS", 3600)  # what waits hangs
    actor = StoringActor(Address(tmp_path))
    features = {"fcl1": np.zeros((1, 512), FEATURE)}
    actor.keep(1, features)
    monkeypatch.setattr(storing_actor, "ROOM_SECONDS", 0.3)
    started = time.monotonic()
    actor.keep(2, features)
    assert time.monotonic() - started > 0.3
    monkeypatch.setattr(storing_actor, "ROOM_SECONDS", 3600)
    actor.let_go(1)
    actor.let_go(1)
    actor.let_go(2)
    actor.keep(3, features)
    with pytest.raises(LookupError):
        actor.store(1, [0], [make_points(1)[0].id], [{}])


def test_told_twice_it_is_stored_once(address: Address) -> None:
    actor, point = StoringActor(address), make_points(1)[0]
    actor.keep(1, {"fcl1": point.vectors["fcl1"][np.newaxis]})
    for _ in range(2):
        actor.store(1, [0], [point.id], [point.payload.to_dict()])
    with open_index(address, purpose="test") as index:
        assert index.count() == 1


def here(points: Sequence[Point], storing: StoringBesideEmbedding) -> list[Arrived]:
    """Points whose features are with a node."""
    every = len(points)
    columns = {KEPT_BY: ["node"] * every, KEPT_AS: [7] * every, KEPT_ROW: range(every)}
    taken = storing.take(pa.table({name: pa.array(values) for name, values in columns.items()}))
    return [Arrived(point.id, point.payload, taken, row) for row, point in enumerate(points)]


def test_an_interruption_loses_no_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    ends = iter((KeyboardInterrupt(), VectorIndexError("the server has had enough")))

    def end() -> None:
        raise next(ends)

    calls = Actors(end)
    monkeypatch.setattr(storing, "ray", calls)
    beside = StoringBesideEmbedding({"node": calls.actor()})
    beside.store(here(make_points(3), beside))
    with pytest.raises(KeyboardInterrupt):
        beside.wait()
    for _ in range(2):
        with pytest.raises(VectorIndexError, match="had enough"):
            beside.wait()


def test_what_needs_nothing_of_a_lost_process_is_finished(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def end() -> None:
        raise RayError("the actor has died")

    calls = Actors(end)
    monkeypatch.setattr(storing, "ray", calls)
    former = make_points(1)[0]
    window = [PendingFile(FileKey(0, "d", name), name, name, 1, 1, None) for name in ("changed", "new")]
    with create_index(parse_address(tmp_path / "index"), describe(), purpose="test") as index:
        ledger = Ledger(tmp_path / "index")
        index.upsert([replace(former, payload=replace(former.payload, locations=(Location(0, "d/changed"),)))])
        ledger.put([FileRecord(window[0].key, 0, 0, "indexed", None, (former.id,))])
        beside = StoringBesideEmbedding({"node": calls.actor()})
        told: list[str] = []
        one = Sink(index, ledger, window, lambda file, *_: told.append(file.shown), SinkCounts(), beside)
        rows = [
            {"file": 0, "frame": 0, "of": 1, "reason": "corrupt or truncated", "detail": "half"},
            {"file": 1, "frame": 1, "of": 1, "identity": "new", KEPT_BY: "node", KEPT_AS: 7, KEPT_ROW: 0},
        ]
        one.take(pa.Table.from_pylist(rows, kept_schema()))
        with pytest.raises(RayError):
            one.commit()
        assert one.accounted == {0}  # the other is sent again
        assert told == ["changed"]
        assert index.count() == 0
        assert ledger.counts() == {"left out": 1, "writing": 1}
        ledger.close()


def test_an_embedded_index_is_stored_at_once(tmp_path: Path) -> None:
    points = make_points(5)
    with create_index(parse_address(tmp_path / "index"), describe(), purpose="test") as index:
        at_once = StoringHere(index)
        features = [np.stack([point.vectors["fcl1"] for point in points]).astype(FEATURE)]
        table = pa.table({"fcl1": pa.array([row.tobytes() for row in features[0]], pa.binary(2 * WIDTH))})
        taken = at_once.take(pa.concat_tables([table, table.slice(2)]))
        at_once.store([Arrived(point.id, point.payload, taken, row) for row, point in enumerate(points[:3])])
        at_once.store([Arrived(points[4].id, points[4].payload, taken, 7)])
        at_once.store([])
        assert at_once.under_way() == {}
        at_once.wait()
        assert index.count() == 4
        assert np.array_equal(index.vector(points[4].id, "fcl1"), features[0][4])


@pytest.mark.usefixtures("without_ray")
@pytest.mark.parametrize("engine", [EdgeIndex, ServerIndex])
def test_what_was_not_stored_is_neither_counted_nor_called_done(
    archive: Path, model_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, engine: Any
) -> None:
    monkeypatch.setattr(sink, "UPSERT_POINTS", 4)
    real, stored = engine.upsert_batch, [0]

    def upsert(self: Any, batch: PointBatch) -> None:
        if stored[0] >= 8:
            raise VectorIndexError("the engine has had enough")
        stored[0] += len(batch)
        real(self, batch)

    class Ending(JobObserver):
        report: JobReport | None = None

        def ended(self, report: JobReport) -> None:
            self.report = report

    monkeypatch.setenv("CBMIR_STATE", str(tmp_path / "state"))
    server = StandIn() if engine is ServerIndex else None
    there = f"http://127.0.0.1:1/x?grpc_port={server.port}" if server else tmp_path / "index"
    job, ending = small_job((archive,), model_path, there), Ending()
    with monkeypatch.context() as patch:
        patch.setattr(engine, "upsert_batch", upsert)
        with pytest.raises(VectorIndexError, match="has had enough"):
            index_archive(job, ending)
    assert ending.report
    assert ending.report.outcome == "failed"
    assert ending.report.files_indexed <= 8
    ledger = Ledger(job.index.home, read_only=True)
    done = ledger.counts().get("indexed", 0)
    half_done = len(list(ledger.keys("writing")))
    ledger.close()
    assert done <= 8
    assert half_done > 0
    assert index_archive(job).files_unchanged == done
    with open_index(job.index, purpose="test") as index:
        assert index.count() == 28
    if server:
        server.discard()
