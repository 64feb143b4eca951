"""Jobs into a server of its own process that is killed, paused or full, and what another machine knows afterwards."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import grpc
import pytest

from index.address import Address, parse_address
from index.ledgers import reading_ledger
from index.opening import open_index
from index.upkeep.verify import verify
from model.errors import VectorIndexError
from tests.support.jobs import small_job
from tests.support.stand_in.process import StandInProcess
from tests.support.stand_in.service import StandIn, refuse
from workers.indexing import sink
from workers.indexing.job import index_archive
from workers.indexing.settings import JobObserver, JobSettings, Progress

pytestmark = pytest.mark.usefixtures("without_ray")

POINTS = 28


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[StandInProcess]:
    monkeypatch.setenv("CBMIR_STATE", str(tmp_path / "state"))
    monkeypatch.setattr(sink, "UPSERT_POINTS", 4)
    monkeypatch.setattr(sink, "COMMIT_SECONDS", 0.0)
    monkeypatch.setattr("workers.indexing.streaming.LOOK_SECONDS", 0.0)
    with StandInProcess(tmp_path / "server") as running:
        yield running


@pytest.fixture
def job(server: StandInProcess, archive: Path, model_path: Path) -> JobSettings:
    return small_job((archive,), model_path, f"http://127.0.0.1:1/scans?grpc_port={server.port}")


class Midway(JobObserver):
    """Does something once, when some points are stored."""

    def __init__(self, act: Callable[[], None]) -> None:
        self._act: Callable[[], None] | None = act

    def progress(self, progress: Progress) -> None:
        if self._act and progress.sink and progress.sink.points >= 8:
            act, self._act = self._act, None
            act()


def expect_everything(job: JobSettings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Another machine finds every point, and nothing to do."""
    monkeypatch.setenv("CBMIR_STATE", str(tmp_path / "another machine"))
    address = parse_address(str(job.index))
    with open_index(address, purpose="test") as index, reading_ledger(address) as ledger:
        assert ledger
        found = verify(index, ledger)
        assert (found.points, found.points_missing, found.points_unknown) == (POINTS, 0, 0)
    again = index_archive(replace(job, index=address))
    assert (again.files_indexed, again.files_unchanged) == (0, 26)


@pytest.mark.parametrize(("end", "back"), [("kill", "start"), ("pause", "resume")])
def test_a_server_that_is_away_for_a_while_delays_a_job(
    job: JobSettings, server: StandInProcess, end: str, back: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def go_away() -> None:
        getattr(server, end)()
        threading.Timer(1.5, getattr(server, back)).start()

    assert index_archive(job, Midway(go_away)).outcome == "complete"
    expect_everything(job, monkeypatch, tmp_path)


def test_a_server_that_stays_away_ends_a_job_that_another_machine_finishes(
    job: JobSettings, server: StandInProcess, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with monkeypatch.context() as patch:
        for name in ("index.engines.server", "index.sharing.shared_ledger"):
            patch.setattr(f"{name}.WRITE_PATIENCE_SECONDS", 1.0)
        patch.setattr("index.sharing.shared_ledger.LAST_WORD_SECONDS", 0.5)
        patch.setattr("index.sharing.shared_ledger.READ_PATIENCE_SECONDS", 0.5)
        with pytest.raises(VectorIndexError, match="cannot be reached"):
            index_archive(job, Midway(server.kill))
    server.start()
    monkeypatch.setattr("index.sharing.leases.LIFE_SECONDS", 1.0)
    monkeypatch.setattr("index.sharing.leases.machine", lambda: "another")
    monkeypatch.setenv("CBMIR_STATE", str(tmp_path / "first to come"))
    finished = index_archive(replace(job, index=parse_address(str(job.index))))
    assert finished.files_unchanged >= 8
    assert finished.outcome == "complete"
    expect_everything(job, monkeypatch, tmp_path)


def test_a_job_into_a_real_server_is_known_to_another_machine(
    archive: Path, model_path: Path, server_address: Address, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    job = small_job((archive,), model_path, str(server_address))
    assert index_archive(job).outcome == "complete"
    expect_everything(job, monkeypatch, tmp_path)


def test_a_full_server_ends_a_job_and_loses_nothing(
    archive: Path, model_path: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("CBMIR_STATE", str(tmp_path / "state"))
    monkeypatch.setattr(sink, "UPSERT_POINTS", 4)
    server = StandIn()
    job = small_job((archive,), model_path, f"http://127.0.0.1:1/scans?grpc_port={server.port}")
    full = refuse(grpc.StatusCode.INTERNAL, "Service internal error: No space left on device")
    server.faults = [lambda _server, _context: None] * 3 + [full] * 20
    with pytest.raises(VectorIndexError, match="No space left on device"):
        index_archive(job)
    assert 0 < server.count("scans") < POINTS
    server.faults = []
    assert index_archive(job).outcome == "complete"
    expect_everything(job, monkeypatch, tmp_path)
    server.discard()
