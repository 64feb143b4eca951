from __future__ import annotations

from pathlib import Path

import pytest

from index.address import Address, parse_address
from model.errors import SettingError


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("http://host", ("host", 6333, 6334, False, "cbmir", "http://host:6333/cbmir")),
        ("https://host/scans", ("host", 6333, 6334, True, "scans", "https://host:6333/scans")),
        ("http://10.0.0.7:7000", ("10.0.0.7", 7000, 7001, False, "cbmir", "http://10.0.0.7:7000/cbmir")),
        ("http://h:1/x?grpc_port=9", ("h", 1, 9, False, "x", "http://h:1/x?grpc_port=9")),
        ("http://[::1]:6333/x", ("::1", 6333, 6334, False, "x", "http://[::1]:6333/x")),
    ],
)
def test_addresses_of_servers(text: str, expected: tuple[str, int, int, bool, str, str]) -> None:
    found = parse_address(text)
    server = found.server
    assert server
    assert (server.host, server.port, server.grpc_port, server.tls, server.collection, str(found)) == expected
    assert parse_address(str(found)) == found


def test_a_cluster_may_have_several_entry_nodes() -> None:
    found = parse_address("https://q1,q2:7000,[::1]/scans")
    server = found.server
    assert server
    assert str(found) == "https://q1:6333,q2:7000,[::1]:6333/scans"
    assert parse_address(str(found)) == found
    assert found.home.name == "q1_6333_scans"
    nodes = [(entry.host, entry.port, entry.grpc_port, entry.tls) for entry in server.entries]
    assert nodes == [("q1", 6333, 6334, True), ("q2", 7000, 7001, True), ("::1", 6333, 6334, True)]
    assert [str(entry) for entry in server.entries][1] == "https://q2:7000/scans"


@pytest.mark.parametrize(
    "text",
    [
        "ftp://host",
        "http://a,,b/x",
        "http://a,b:x/x",
        "http://",
        "http://host/a/b",
        "http://host?x=1",
        "http://host:port",
    ],
)
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(SettingError, match="no address of an index"):
        parse_address(text)


def test_keys_stay_out_of_addresses(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SettingError, match="cannot hold a password: set CBMIR_INDEX_API_KEY"):
        parse_address("http://user:secret@host")
    monkeypatch.setenv("CBMIR_INDEX_API_KEY", "secret")
    found = parse_address("http://host")
    server = found.server
    assert server
    assert server.api_key == "secret"
    assert "secret" not in f"{found} {found!r} {server}"


def test_where_the_ledger_lies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert parse_address(tmp_path / "index").home == tmp_path / "index"
    monkeypatch.setenv("CBMIR_STATE", str(tmp_path))
    assert parse_address("http://host:7000/scans").home == tmp_path / "host_7000_scans"
    monkeypatch.delenv("CBMIR_STATE")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "x"))
    assert parse_address("http://[::1]/scans").home == tmp_path / "x/cbmir/--1_6333_scans"


def test_a_folder_has_one_address(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "sub").mkdir()
    monkeypatch.chdir(tmp_path / "sub")
    assert parse_address("../index") == Address(tmp_path / "index")
