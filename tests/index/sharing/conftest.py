"""A server's index, and its ledger as several machines open it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from index.address import Address, parse_address
from index.engines.connection import connect
from index.ledger import Ledger
from index.ledgers import open_ledger, reading_ledger
from index.opening import create_index
from tests.index.conftest import describe


@pytest.fixture(params=["wire", pytest.param("server", marks=pytest.mark.server)])
def place(request: pytest.FixtureRequest) -> str:
    """An address on the stand-in, and on a real server."""
    if request.param == "server":
        return str(request.getfixturevalue("server_address"))
    return f"http://127.0.0.1:1/scans?grpc_port={request.getfixturevalue('server').port}"


@pytest.fixture
def at(place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Address]:
    """The address of an index that exists, as a machine of some name knows it."""

    def address(name: str) -> Address:
        monkeypatch.setenv("CBMIR_STATE", str(tmp_path / name))
        return parse_address(place)

    create_index(address("a"), describe(), purpose="test").close()
    return address


@pytest.fixture
def drop(at: Callable[[str], Address]) -> Callable[[str], None]:
    """Drops a collection beside the index, as an operator does."""

    def drop_collection(suffix: str) -> None:
        server = at("a").server
        assert server
        with closing(connect(server)) as client:
            client.delete_collection(server.collection + suffix)

    return drop_collection


@pytest.fixture
def opened(at: Callable[[str], Address]) -> Iterator[Callable[[str], Ledger]]:
    """Opens the ledger for writing on a machine; what is open at the end is closed."""
    every: list[Ledger] = []

    def open_on(name: str) -> Ledger:
        every.append(ledger := open_ledger(at(name), purpose="test"))
        return ledger

    yield open_on
    for ledger in every:
        ledger.close()


def contents(address: Address) -> set[tuple[object, ...]]:
    """All rows that a machine knows after it has asked."""
    with reading_ledger(address) as ledger:
        return set(ledger.rows()) if ledger else set()
