from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from ray.exceptions import NodeDiedError, RayError

from cli.rendering.indexing_progress import IndexingLines
from cli.rendering.json_log import JsonLog
from cli.rendering.progress import StageProgress
from index.ledger import Ledger
from model.errors import JobError, was_interrupted
from tests.support.in_process import run_in_process
from tests.support.jobs import small_job
from workers.indexing import stalling, streaming
from workers.indexing.job import index_archive
from workers.indexing.settings import JobObserver, Machine, Observers

pytestmark = pytest.mark.usefixtures("without_ray")


class Losses(JobObserver):
    def __init__(self) -> None:
        self.told: list[tuple[int, str]] = []

    def worker_lost(self, files: int, why: str) -> None:
        self.told.append((files, why))


def lose(monkeypatch: pytest.MonkeyPatch, times: int, *, after: int = 1) -> None:
    """Let Ray lose a node after so many files, so many times."""
    left = [times]

    def run(*arguments: Any, **settings: Any) -> Iterator[pa.Table]:
        for number, table in enumerate(run_in_process(*arguments, **settings)):
            if left[0] and number == after:
                left[0] -= 1
                raise NodeDiedError("details\nThe node 10.0.0.7 has died")
            yield table

    monkeypatch.setattr(streaming, "run_pipeline", run)


def test_what_is_done_again_after_a_loss_is_said(
    archive: Path, model_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    lose(monkeypatch, 1)
    losses = Losses()
    with StageProgress() as lines:
        observers = Observers([losses, IndexingLines(lines), JsonLog()])
        report = index_archive(small_job((archive / "eye",), model_path, tmp_path / "index"), observers)
    assert (report.outcome, report.files_indexed) == ("complete", 4)
    [(files, why)] = losses.told
    assert files == 3
    assert "The node 10.0.0.7 has died" in why
    shown = capfd.readouterr().err
    assert "a worker was lost" in shown
    assert "3 files are done again" in shown
    assert '"event": "worker lost"' in shown


def test_a_fault_of_the_program_is_named_and_not_rays_hints(
    archive: Path, model_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_arguments: Any, **_settings: Any) -> Iterator[pa.Table]:
        raise RayError(
            "ray::MapWorker(MapBatches(EmbeddingActor)).submit()\n  File ...\nIndexError: only integers\n\n"
            "ray.exceptions.UserCodeException: UDF failed to process a data block.\n"
            "To change retry attempts, backoff, or which errors are retried, configure ..."
        )

    monkeypatch.setattr(streaming, "run_pipeline", fail)
    with pytest.raises(JobError, match="Ray gave the job up: IndexError: only integers: see --debug"):
        index_archive(small_job((archive / "eye",), model_path, tmp_path / "index"))


def test_where_nothing_moves_it_is_said_and_given_up(
    archive: Path, model_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(stalling, "SAID_SECONDS", 0.4)
    monkeypatch.setattr(stalling, "nodes_text", lambda: "1 of 2 Ray nodes answer, lost: 10.0.0.7")

    def hang(*arguments: Any, **settings: Any) -> Iterator[pa.Table]:
        tables = run_in_process(*arguments, **settings)
        yield next(tables)
        time.sleep(30)

    before = signal.signal(signal.SIGINT, signal.SIG_IGN)  # as in a job that a shell has put into the background
    with monkeypatch.context() as patch, StageProgress() as lines:
        patch.setattr(streaming, "run_pipeline", hang)
        job = small_job((archive / "eye",), model_path, tmp_path / "index", machine=Machine(stall_seconds=1.5))
        with pytest.raises(JobError, match=r"1 of 2 Ray nodes answer, lost: 10\.0\.0\.7: the job gave up") as raised:
            index_archive(job, Observers([IndexingLines(lines), JsonLog()]))
    signal.signal(signal.SIGINT, before)
    assert not was_interrupted(raised.value)  # which would be told as Ctrl-C
    shown = capfd.readouterr().err
    assert "no image has come for" in shown
    assert '"event": "stalled"' in shown
    ledger = Ledger(tmp_path / "index", read_only=True)
    last = ledger.last_job()
    ledger.close()
    assert last
    assert last.outcome == "interrupted"
    report = index_archive(small_job((archive / "eye",), model_path, tmp_path / "index"))
    assert (report.files_unchanged, report.files_indexed) == (1, 3)


def test_where_a_lost_node_holds_everything_up_the_rest_goes_on_without_it(
    archive: Path, model_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stalling, "SAID_SECONDS", 0.4)
    monkeypatch.setattr(stalling, "nodes_text", lambda: "1 of 2 Ray nodes answer, lost: 10.0.0.7")
    nodes, hangs = {"head", "10.0.0.7"}, [True]
    monkeypatch.setattr(stalling, "living_nodes", lambda: set(nodes))

    def hang(*arguments: Any, **settings: Any) -> Iterator[pa.Table]:
        for table in run_in_process(*arguments, **settings):
            yield table
            if hangs:
                hangs.clear()
                nodes.remove("10.0.0.7")
                time.sleep(30)

    monkeypatch.setattr(streaming, "run_pipeline", hang)
    losses = Losses()
    report = index_archive(small_job((archive / "eye",), model_path, tmp_path / "index"), losses)
    assert (report.outcome, report.files_indexed) == ("complete", 4)
    assert losses.told == [(3, "1 of 2 Ray nodes answer, lost: 10.0.0.7")]


def test_a_job_that_loses_the_same_files_twice_gives_up_and_goes_on_later(
    archive: Path, model_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lose(monkeypatch, 2, after=0)
    with pytest.raises(JobError, match=r"Ray gave the job up: .*10\.0\.0\.7 has died"):
        index_archive(small_job((archive / "eye",), model_path, tmp_path / "index"))
    report = index_archive(small_job((archive / "eye",), model_path, tmp_path / "index"))
    assert (report.files_unchanged, report.files_indexed) == (0, 4)


def test_a_job_that_gets_on_outlasts_several_losses(
    archive: Path, model_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lose(monkeypatch, 3)
    losses = Losses()
    report = index_archive(small_job((archive / "eye",), model_path, tmp_path / "index"), losses)
    assert (report.outcome, report.files_indexed) == ("complete", 4)
    assert [files for files, _ in losses.told] == [3, 2, 1]


def test_losses_without_end_end_a_job(
    archive: Path, model_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streaming, "MOST_LOSSES", 1)
    lose(monkeypatch, 3)
    with pytest.raises(JobError, match="Ray gave the job up"):
        index_archive(small_job((archive / "eye",), model_path, tmp_path / "index"))
