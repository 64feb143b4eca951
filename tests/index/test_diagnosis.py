from __future__ import annotations

from importlib.metadata import version
from pathlib import Path

import pytest

from index.address import ServerAddress
from index.diagnosis import check_disk, check_engine, check_server
from tests.support.stand_in.service import StandIn


def test_a_server_its_version_and_its_key_are_looked_at(server: StandIn) -> None:
    address = ServerAddress("127.0.0.1", 1, server.port, tls=False, collection="scans")
    [check] = check_server(address, None)
    assert (check.state, check.advice) == ("fine", "")
    server.version = "1.0.0"
    [check] = check_server(address, None)
    assert (check.state, check.detail) == ("note", f"1.0.0, client {version('qdrant-client')}")
    server.key = "secret"
    [check] = check_server(address, None)
    assert check.state == "lacking"
    assert "refuses the API key" in check.detail
    [check] = check_server(address, "secret")
    assert check.state == "note"


def test_a_server_that_does_not_answer_is_lacking() -> None:
    [check] = check_server(ServerAddress("127.0.0.1", 1, 2, tls=False, collection="scans"), None)
    assert check.state == "lacking"
    assert check.advice


def test_engine_and_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert [check.state for check in check_engine()] == ["fine"]
    assert [check.state for check in check_disk(tmp_path / "not" / "made")] == ["fine"]
    monkeypatch.setattr("index.diagnosis.MIN_FREE_BYTES", 2**60)
    assert [check.state for check in check_disk(tmp_path)] == ["lacking"]
