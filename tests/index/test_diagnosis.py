from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.metadata import version
from pathlib import Path

import pytest

from index.diagnosis import check_disk, check_engine, check_server


class _Server(BaseHTTPRequestHandler):
    """Answers as a Qdrant server does when it is asked for its version."""

    found = "1.0.0"

    def do_GET(self) -> None:
        body = json.dumps({"title": "qdrant - vector search engine", "version": self.found}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[str]:
    served = ThreadingHTTPServer(("127.0.0.1", 0), _Server)
    thread = threading.Thread(target=served.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{served.server_address[1]}"
    served.shutdown()
    thread.join()
    served.server_close()


def test_a_server_of_another_version_is_noted(server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    [check] = check_server(server, None)
    assert (check.state, check.detail) == ("note", f"1.0.0, client {version('qdrant-client')}")
    monkeypatch.setattr(_Server, "found", version("qdrant-client"))
    [check] = check_server(server, None)
    assert (check.state, check.advice) == ("fine", "")


def test_a_server_that_does_not_answer_is_lacking() -> None:
    [check] = check_server("http://127.0.0.1:1", None)
    assert check.state == "lacking"
    assert check.advice


def test_engine_and_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert [check.state for check in check_engine()] == ["fine"]
    assert [check.state for check in check_disk(tmp_path / "not" / "made")] == ["fine"]
    monkeypatch.setattr("index.diagnosis.MIN_FREE_BYTES", 2**60)
    assert [check.state for check in check_disk(tmp_path)] == ["lacking"]
