from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from index.address import parse_address
from index.ledger import FileKey, FileRecord, Ledger
from index.opening import create_index, open_index
from tests.index.conftest import describe, make_points
from tests.support.stand_in.service import StandIn


@pytest.fixture
def index(tmp_path: Path) -> Path:
    with create_index(parse_address(tmp_path / "index"), describe(), purpose="test") as opened:
        opened.upsert(make_points(30))
    ledger = Ledger(tmp_path / "index")
    ledger.put([FileRecord(FileKey(0, "", str(n)), 1, 1, "indexed", None, ()) for n in range(30)])
    ledger.start_job("2026-01-01T00:00:00+00:00")
    ledger.close()
    return tmp_path / "index"


def test_status_counts_by_organ_and_modality(
    cbmir: Callable[..., int], index: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cbmir("status", "--index", index, "--format", "json") == 0
    values = json.loads(capsys.readouterr().out)
    assert (values["points"], values["vector index complete"], values["files"]) == (30, True, {"indexed": 30})
    assert not values["complete"]
    assert values["organs"] == {"brain": 10, "chest": 10, "knee": 10}
    assert values["modalities"] == {"CT": 15, "MR": 15}
    assert values["last job"]["outcome"] == "killed"
    assert cbmir("status", "--index", index) == 0
    text = capsys.readouterr().out
    assert "brain 10" in text
    assert "size on disk" in text


def test_a_locked_index_is_answered_from_the_ledger(
    cbmir: Callable[..., int], index: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with open_index(parse_address(index), purpose="cbmir index"):
        assert cbmir("status", "--index", index) == 0
    captured = capsys.readouterr()
    assert "indexed 30" in captured.out
    assert "in use by 'cbmir index'" in " ".join(captured.err.split())


def test_status_of_what_is_no_index(
    cbmir: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cbmir("status", "--index", tmp_path) == 1
    assert "is not an index" in " ".join(capsys.readouterr().err.split())


def test_a_job_on_a_server_is_not_called_killed(
    cbmir: Callable[..., int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("CBMIR_STATE", str(tmp_path / "state"))
    server = StandIn()
    try:
        address = f"http://127.0.0.1:1/scans?grpc_port={server.port}"
        create_index(parse_address(address), describe(), purpose="test").close()
        ledger = Ledger(parse_address(address).home)
        ledger.start_job("2026-01-01T00:00:00+00:00")
        ledger.close()
        assert cbmir("status", "--index", address, "--format", "json") == 0
    finally:
        server.stop()
    assert json.loads(capsys.readouterr().out)["last job"]["outcome"] == "running"
