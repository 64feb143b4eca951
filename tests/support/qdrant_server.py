"""A real Qdrant server for the tests that need one: given by CBMIR_QDRANT_URL, or started from the PATH."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from index.address import Address, ServerAddress, parse_address
from index.sharing.collection import SUFFIX


@pytest.fixture(scope="session")
def qdrant_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A real server: that of CBMIR_QDRANT_URL, or one started from a ``qdrant`` program; skips where neither is."""
    if url := os.environ.get("CBMIR_QDRANT_URL"):
        yield url.rstrip("/")
        return
    program = shutil.which("qdrant")
    if program is None:
        pytest.skip("needs a Qdrant server: set CBMIR_QDRANT_URL, or put the qdrant program on the PATH")
    folder, ports = tmp_path_factory.mktemp("qdrant"), [_free_port(), _free_port()]
    settings = {
        "QDRANT__STORAGE__STORAGE_PATH": str(folder / "storage"),
        "QDRANT__STORAGE__SNAPSHOTS_PATH": str(folder / "snapshots"),
        "QDRANT__SERVICE__HOST": "127.0.0.1",
        "QDRANT__SERVICE__HTTP_PORT": str(ports[0]),
        "QDRANT__SERVICE__GRPC_PORT": str(ports[1]),
        "QDRANT__TELEMETRY_DISABLED": "true",
    }
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(
            [program], cwd=folder, env={**os.environ, **settings}, stdout=log, stderr=subprocess.STDOUT
        )
    try:
        deadline = time.monotonic() + 30
        while socket.socket().connect_ex(("127.0.0.1", ports[1])):
            assert process.poll() is None, (folder / "log").read_text()
            assert time.monotonic() < deadline, "qdrant does not answer"
            time.sleep(0.1)
        print(f"started {program} on port {ports[0]}, storage in {folder}")
        yield f"http://127.0.0.1:{ports[0]}?grpc_port={ports[1]}"
    finally:
        process.terminate()
        process.wait(30)


@pytest.fixture
def server_address(qdrant_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Address]:
    """A collection of the real server that does not exist yet; dropped afterwards, with its ledger."""
    monkeypatch.setenv("CBMIR_STATE", str(tmp_path / "state"))
    base, _, options = qdrant_url.partition("?")
    address = parse_address(f"{base}/test-{uuid4().hex}{'?' + options if options else ''}")
    assert address.server
    yield address
    _drop(address.server)


def _drop(address: ServerAddress) -> None:
    from index.engines.connection import connect

    client = connect(address)
    for name in (address.collection, address.collection + SUFFIX):
        client.delete_collection(name)
    client.close()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
