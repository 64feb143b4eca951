"""The commands with a server's address as the index, over a real gRPC connection."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import grpc
import pytest

from index.address import parse_address
from index.opening import open_index
from model.errors import IndexLockedError
from tests.support.jobs import small_job
from tests.support.stand_in.service import StandIn, cut, refuse
from workers.indexing.job import index_archive
from workers.indexing.settings import JobObserver, JobSettings, Progress


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[StandIn]:
    monkeypatch.setenv("CBMIR_STATE", str(tmp_path / "state"))
    standing_in = StandIn()
    yield standing_in
    standing_in.discard()


@pytest.mark.usefixtures("ray_here")
def test_index_search_status_and_copy(
    cbmir: Callable[..., int],
    archive: Path,
    model_path: Path,
    server: StandIn,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    address = f"http://127.0.0.1:6333/scans?grpc_port={server.port}"
    # An overloaded server and a cut connection delay the job and lose nothing.
    server.faults = [refuse(grpc.StatusCode.UNAVAILABLE), cut]
    assert cbmir("index", archive, "--index", address, "--model", model_path, "--labels", "folder") == 3
    assert "25 files indexed as 28 points, 0 unchanged, 1 left out" in capsys.readouterr().out
    assert server.count("scans") == 28
    assert (tmp_path / "state/127.0.0.1_6333_scans/ledger.sqlite").exists()

    assert cbmir("index", archive, "--index", address) == 3
    assert "0 files indexed as 0 points, 26 unchanged, 1 left out" in capsys.readouterr().out

    query = next((archive / "eye").iterdir())
    search = ("search", query, "--no-class-prediction", "--top", 5, "--format", "json")
    assert cbmir(*search, "--index", address) == 0
    over_the_wire = json.loads(capsys.readouterr().out)

    assert cbmir("status", "--index", address, "--format", "json") == 0
    status = json.loads(capsys.readouterr().out)
    assert (status["points"], status["last job"]["outcome"], status["bytes on disk"]) == (28, "complete", None)

    assert cbmir("copy", address, tmp_path / "folder") == 0
    assert "holds the 28 points" in capsys.readouterr().out
    assert (
        cbmir("search", query, "--index", tmp_path / "folder", "--no-class-prediction", "--top", 5, "--format", "json")
        == 0
    )
    embedded = json.loads(capsys.readouterr().out)
    for ours, theirs in zip(embedded[0]["hits"], over_the_wire[0]["hits"], strict=True):
        assert ours["distance"] == pytest.approx(theirs["distance"], rel=1e-2)
    # The ledger came along: nothing is embedded again.
    assert cbmir("index", archive, "--index", tmp_path / "folder") == 3
    assert "0 files indexed as 0 points, 26 unchanged, 1 left out" in capsys.readouterr().out
    assert cbmir("copy", tmp_path / "folder", f"http://127.0.0.1:6333/back?grpc_port={server.port}") == 0
    assert server.count("back") == 28

    # A collection that was dropped behind the ledger's back is noticed.
    server.collections.pop("scans")
    assert cbmir("index", archive, "--index", address, "--model", model_path) == 1
    assert "has lost its points" in " ".join(capsys.readouterr().err.split())


def test_two_jobs_at_once_share_a_server(
    program_without_ray: tuple[str, ...],
    archive: Path,
    model_path: Path,
    server: StandIn,
    cbmir: Callable[..., int],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    address = f"http://127.0.0.1:6333/shared?grpc_port={server.port}"
    base = [*program_without_ray, "index", "--index", address, "--model", model_path]
    organs = {"eye", "knee", "chest"}
    jobs = [
        subprocess.Popen(list(map(str, [*base, *(archive / organ for organ in chosen)])), stderr=subprocess.PIPE)
        for chosen in (("eye", "knee"), ("chest",))
    ]
    errors = [job.communicate()[1].decode() for job in jobs]
    assert [job.returncode for job in jobs] == [3, 0], errors  # a broken file lies in knee
    with open_index(parse_address(address), purpose="test") as index:
        roots = index.description.roots
        assert sorted(roots) == [str(archive / organ) for organ in sorted(organs)]
        stored = [Path(roots[one.root], one.path) for _, payload in index.scroll() for one in payload.locations]
    expected = {path for organ in organs for path in (archive / organ).iterdir() if "broken" not in path.name}
    assert set(stored) == expected
    # What both have done is done for the next one, on whichever machine.
    monkeypatch.setenv("CBMIR_STATE", str(tmp_path / "another machine"))
    assert cbmir("index", archive / "knee", archive / "chest", "--index", address, "--dry-run") == 0
    assert "unchanged files  9 (1 of them left out before)" in capsys.readouterr().out
    assert cbmir("status", "--index", address, "--format", "json") == 0
    status = json.loads(capsys.readouterr().out)
    assert (status["files"]["indexed"], status["last job"]["outcome"]) == (len(expected), "complete")


@pytest.mark.usefixtures("without_ray")
def test_an_archive_that_another_job_works_at_is_refused(
    archive: Path, model_path: Path, server: StandIn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    address = f"http://127.0.0.1:6333/shared?grpc_port={server.port}"

    def settings(*organs: str) -> JobSettings:
        return small_job(tuple(archive / organ for organ in organs), model_path, address)

    class Another(JobObserver):
        refused = ""

        def progress(self, progress: Progress) -> None:
            if progress.stage != "indexing" or self.refused:
                return
            monkeypatch.setenv("CBMIR_STATE", str(tmp_path / "another machine"))
            with pytest.raises(IndexLockedError) as error:
                index_archive(settings("eye", "knee"))
            self.refused = str(error.value)
            index_archive(settings("eye"))  # nobody is at it

    observer = Another()
    monkeypatch.setattr("workers.indexing.streaming.LOOK_SECONDS", 0.0)
    assert index_archive(settings("knee", "chest"), observer).files_indexed == 8
    assert re.match(rf"{archive}/knee is being indexed by 'cbmir index' \(process \d+ on .*: wait", observer.refused)
    report = index_archive(settings("eye", "knee", "chest"))
    assert (report.files_indexed, report.files_unchanged) == (0, 13)


def test_a_server_that_is_away_is_one_sentence(
    cbmir: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("index.engines.server.READ_PATIENCE_SECONDS", 1.0)
    assert cbmir("status", "--index", "http://127.0.0.1:9/scans") == 1
    error = capsys.readouterr().err
    assert "http://127.0.0.1:9/scans cannot be reached: is the server running" in error
    assert "Traceback" not in error
