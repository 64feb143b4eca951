"""The server on Ray Serve, which is an extra of its own: ``pip install 'cbmir[serve-ray]'``."""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
from importlib.util import find_spec
from pathlib import Path

import httpx
import psutil
import pytest

from index.address import parse_address
from workers.serving.settings import Access, ServingSettings


@pytest.mark.skipif(find_spec("opencensus") is None, reason="needs Ray Serve: pip install 'cbmir[serve-ray]'")
def test_replicas_share_an_index_and_uploads_and_may_be_killed(served_index: Path, archive: Path) -> None:
    from workers.serving.replicas import Replicas, serve_on_ray

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    settings = ServingSettings(parse_address(served_index), access=Access(port=port))
    ready, ended = threading.Event(), threading.Event()
    faults: list[object] = []

    def ask() -> None:
        try:
            assert ready.wait(120)
            picture = [("image", ("knee", (archive / "knee" / "knee-001.dcm").read_bytes()))]
            with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60) as client:
                page = client.post("/", files=picture).headers["location"]
                assert [client.get(page).status_code for _ in range(8)] == [200] * 8
                replicas = [one for one in psutil.Process().children(True) if "ServeReplica" in " ".join(one.cmdline())]
                os.kill(replicas[0].pid, signal.SIGKILL)
                time.sleep(1)
                codes = [client.post("/api/search", files=picture).status_code for _ in range(8)]
                assert codes.count(200) >= 7
        except BaseException as error:
            faults.append(error)
        finally:
            ended.set()

    asking = threading.Thread(target=ask)
    asking.start()
    serve_on_ray(settings, Replicas(2, 2, cpus=0.5), None, ready=lambda _: ready.set(), ended=ended)
    asking.join()
    assert not faults
