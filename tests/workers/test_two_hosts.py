"""A job on two hosts, the link between them cut: two network namespaces of this machine, a Ray node in each."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from index.address import parse_address
from index.opening import open_index
from tests.support import phantoms

JOB = """
import json, subprocess, sys
from pathlib import Path

from index.address import parse_address
from workers.indexing import stalling
from workers.indexing.job import index_archive
from workers.indexing.settings import JobObserver, JobSettings, Machine, Progress

archive, model, index, address, link = sys.argv[1:]
stalling.SAID_SECONDS = 5.0
told = {"stalled": [], "lost": [], "cut after": None}

class Cutter(JobObserver):
    def progress(self, progress: Progress) -> None:
        if told["cut after"] is None and progress.sink and progress.sink.points:
            told["cut after"] = progress.sink.points
            subprocess.run(["ip", "link", "set", link, "down"], check=True)

    def stalled(self, seconds, nodes):
        told["stalled"].append([seconds, nodes])

    def worker_lost(self, files, why):
        told["lost"].append([files, why])

machine = Machine(ray_address=address, actors=(2, 2), batch_size=8, runtime="openvino")
settings = JobSettings((Path(archive),), parse_address(index), Path(model), machine=machine)
report = index_archive(settings, Cutter())
print(json.dumps({**told, "indexed": report.files_indexed, "points": report.points, "outcome": report.outcome}))
"""

NOTICING = {
    "health_check_initial_delay_ms": 1000,
    "health_check_period_ms": 1000,
    "health_check_timeout_ms": 1000,
    "health_check_failure_threshold": 4,
}
"""Ray's own take the better part of a minute."""

PORT = 6399


@pytest.fixture
def another_host() -> Iterator[tuple[str, str]]:
    """A network namespace that is reached by one link: its name, and the link's on this side."""
    if os.geteuid() or not shutil.which("ip"):
        pytest.skip("needs root and the ip program, to make a network namespace")
    name, link = f"cbmir-{uuid4().hex[:6]}", f"cb{uuid4().hex[:8]}"
    if subprocess.run(["ip", "netns", "add", name], check=False, capture_output=True).returncode:
        pytest.skip("this machine does not let network namespaces be made")
    try:
        for command in (
            f"ip link add {link} type veth peer name eth0 netns {name}",
            f"ip addr add 10.77.0.1/24 dev {link}",
            f"ip link set {link} up",
            f"ip -n {name} addr add 10.77.0.2/24 dev eth0",
            f"ip -n {name} link set eth0 up",
            f"ip -n {name} link set lo up",
        ):
            subprocess.run(command.split(), check=True)
        yield name, link
    finally:
        subprocess.run(["ip", "link", "del", link], check=False)
        subprocess.run(["ip", "netns", "del", name], check=False)


def test_a_cut_link_costs_no_image(another_host: tuple[str, str], tmp_path: Path, model_path: Path) -> None:
    host, link = another_host
    archive = tmp_path / "archive"
    archive.mkdir()
    files = phantoms.write_repository(archive, images=60, side=64)
    environment = {**os.environ, "RAY_AUTH_MODE": "disabled", "PYTHONPATH": str(Path(__file__).parents[2])}
    ray = [str(Path(sys.executable).with_name("ray")), "start", "--num-cpus", "2", "--disable-usage-stats", "--block"]
    worker = ["ip", "netns", "exec", host, *ray, "--address", f"10.77.0.1:{PORT}", "--node-ip-address", "10.77.0.2"]
    with tempfile.TemporaryDirectory(prefix="ray") as short_folder, (tmp_path / "ray.log").open("w") as log:
        head = [*ray, "--head", "--port", str(PORT), "--node-ip-address", "10.77.0.1", "--include-dashboard", "false"]
        head += ["--system-config", json.dumps(NOTICING), "--temp-dir", short_folder]
        nodes = []
        try:
            for command in (head, worker):
                nodes.append(subprocess.Popen(command, env=environment, stdout=log, stderr=log, start_new_session=True))
                time.sleep(5)
            arguments = (archive, model_path, tmp_path / "index", f"10.77.0.1:{PORT}", link)
            command = [sys.executable, "-P", "-c", JOB, *map(str, arguments)]
            done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment, timeout=300)
        finally:
            inside = subprocess.run(["ip", "netns", "pids", host], check=True, capture_output=True, text=True)
            for process in inside.stdout.split():
                os.kill(int(process), signal.SIGKILL)
            for node in nodes:
                os.killpg(node.pid, signal.SIGKILL)
                node.wait(30)
    assert done.returncode == 0, done.stderr[-3000:]
    told = json.loads(done.stdout.strip().splitlines()[-1])
    assert 0 < told["cut after"] < files
    assert told["stalled"]
    # At times Ray itself does again what it had given to the other host, and nothing is told.
    assert len(told["lost"]) <= 1
    for files_again, why in told["lost"]:
        assert 0 < files_again < files
        assert why == "1 of 2 Ray nodes answer, lost: 10.77.0.2"
    assert told["outcome"] == "complete"
    with open_index(parse_address(tmp_path / "index"), purpose="test") as index:
        assert index.count() == files - 1 + 3
