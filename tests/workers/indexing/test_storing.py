from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from index.address import parse_address
from index.engines.engine import Index
from index.engines.server import ServerIndex
from index.ledger import Ledger
from index.opening import create_index, open_index
from index.schema import Point
from model.errors import DiskFullError, VectorIndexError
from tests.index.conftest import describe, make_points
from tests.support.jobs import small_job
from tests.support.stand_in.service import StandIn
from workers.indexing import sink
from workers.indexing.job import index_archive
from workers.indexing.report import JobReport
from workers.indexing.settings import JobObserver
from workers.indexing.storing import SERVER_THREADS, Storing


@pytest.fixture(params=["edge", "server"])
def index(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Index]:
    """An index that stores at once, and one whose points are under way for a while."""
    if request.param == "edge":
        yield create_index(parse_address(tmp_path / "index"), describe(), purpose="test")
        return
    monkeypatch.setenv("CBMIR_STATE", str(tmp_path / "state"))
    server = StandIn()
    yield create_index(parse_address(f"http://127.0.0.1:1/x?grpc_port={server.port}"), describe(), purpose="test")
    server.discard()


on_a_server = pytest.mark.parametrize("index", ["server"], indirect=True)


def test_everything_is_stored_when_it_was_waited_for(index: Index) -> None:
    points = make_points(60)
    with index, Storing(index) as storing:
        for start in range(0, 60, 10):
            storing.upsert(points[start : start + 10])
        assert set(storing.under_way([points[55].id])) <= {points[55].id}
        storing.wait()
        assert storing.everything_under_way() == {}
        assert index.count() == 60


@on_a_server
def test_the_last_word_on_a_point_is_stored_last(index: Index, monkeypatch: pytest.MonkeyPatch) -> None:
    slowly(index, monkeypatch, lambda points: 0.2 if points[0].payload.label == "first" else 0.0)
    point = make_points(1)[0]
    first, last = (relabelled(point, label) for label in ("first", "last"))
    with index, Storing(index) as storing:
        storing.upsert([first])
        assert storing.under_way([point.id]) == {point.id: first.payload}
        storing.upsert([last])
        storing.wait()
        assert index.retrieve([point.id])[point.id].label == "last"


def relabelled(point: Point, label: str) -> Point:
    return replace(point, payload=replace(point.payload, label=label))


def slowly(index: Index, monkeypatch: pytest.MonkeyPatch, seconds: Callable[[Sequence[Point]], float]) -> list[int]:
    """Let upserts take a while; return how many were under way at each."""
    real, together, now = index.upsert, [], [0]

    def upsert(points: Sequence[Point]) -> None:
        now[0] += 1
        together.append(now[0])
        time.sleep(seconds(points))
        real(points)
        now[0] -= 1

    monkeypatch.setattr(index, "upsert", upsert)
    return together


@on_a_server
def test_a_failure_is_told_at_once_and_ever_after(index: Index, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_points: Sequence[Point]) -> None:
        raise DiskFullError("full")

    points = make_points(4)
    with index:
        storing = Storing(index)
        with monkeypatch.context() as patch:
            patch.setattr(index, "upsert", fail)
            storing.upsert(points[:1])
            for call in (storing.wait, storing.wait, lambda: storing.upsert(points[1:2])):
                with pytest.raises(DiskFullError):
                    call()
        assert index.count() == 0


@on_a_server
def test_a_server_gets_several_batches_at_once(index: Index, monkeypatch: pytest.MonkeyPatch) -> None:
    together = slowly(index, monkeypatch, lambda _points: 0.1)
    points = make_points(80)
    with index, Storing(index) as storing:
        for start in range(0, 80, 8):
            storing.upsert(points[start : start + 8])
        storing.wait()
        assert max(together) == SERVER_THREADS
        assert index.count() == 80


@on_a_server
def test_an_interruption_while_there_is_no_room_leaves_nothing_to_wait_for_in_vain(
    index: Index, monkeypatch: pytest.MonkeyPatch
) -> None:
    release = threading.Event()
    monkeypatch.setattr(index, "upsert", lambda _points: release.wait(30))
    storing, points = Storing(index), make_points(40)
    for start in range(2 * SERVER_THREADS):
        storing.upsert(points[start : start + 1])

    def interrupt(_batch: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(storing._batches, "put", interrupt)
        with pytest.raises(KeyboardInterrupt):
            storing.upsert(points[20:21])
    threading.Timer(0.2, release.set).start()
    storing.wait()
    assert storing.everything_under_way() == {}


@on_a_server
def test_an_interrupted_job_does_not_wait_for_its_threads(index: Index, monkeypatch: pytest.MonkeyPatch) -> None:
    release = threading.Event()
    monkeypatch.setattr(index, "upsert", lambda _points: release.wait(30))
    started = time.monotonic()
    storing = Storing(index)
    storing.upsert(make_points(1))
    storing.__exit__(KeyboardInterrupt, KeyboardInterrupt(), None)
    assert time.monotonic() - started < 5
    release.set()
    index.close()


@pytest.mark.usefixtures("without_ray")
def test_what_was_not_stored_is_neither_counted_nor_called_done(
    archive: Path, model_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sink, "UPSERT_POINTS", 4)
    real, stored = ServerIndex.upsert, [0]

    def upsert(self: ServerIndex, points: Sequence[Point]) -> None:
        if stored[0] >= 8:
            time.sleep(0.3)  # so that more is taken meanwhile
            raise VectorIndexError("the engine has had enough")
        stored[0] += len(points)
        real(self, points)

    class Ending(JobObserver):
        report: JobReport | None = None

        def ended(self, report: JobReport) -> None:
            self.report = report

    monkeypatch.setenv("CBMIR_STATE", str(tmp_path / "state"))
    server = StandIn()
    address = f"http://127.0.0.1:1/x?grpc_port={server.port}"
    job, ending = small_job((archive,), model_path, address), Ending()
    with monkeypatch.context() as patch:
        patch.setattr(ServerIndex, "upsert", upsert)
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
    server.discard()
