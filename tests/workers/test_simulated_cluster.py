"""Jobs on a Ray cluster of three nodes, simulated by Ray itself."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from index.address import parse_address
from index.opening import open_index
from tests.support import phantoms
from tests.support.stand_in.process import StandInProcess

BEGINNING = """
import json, sys
from pathlib import Path

from ray.cluster_utils import Cluster

from index.address import parse_address
from workers.indexing import streaming
from workers.indexing.job import index_archive
from workers.indexing.settings import JobObserver, JobSettings, Machine, Progress

archive, model = map(Path, sys.argv[1:3])
index = parse_address(sys.argv[3])
"""

LOSS = """
noticing = {"health_check_initial_delay_ms": 1000, "health_check_period_ms": 1000, "health_check_failure_threshold": 3}
head = {"num_cpus": 2, "include_dashboard": False, "_system_config": noticing}
cluster = Cluster(initialize_head=True, head_node_args=head)
cluster.add_node(num_cpus=2)
doomed = cluster.add_node(num_cpus=2)
cluster.wait_for_nodes()
lost, received = [], set()
run_pipeline = streaming.run_pipeline

def watched(*arguments, **more):
    for table in run_pipeline(*arguments, **more):
        received.update(table.column_names)
        received.update(zip(["node"] * len(table), table["kept_by"].to_pylist()))
        yield table

streaming.run_pipeline = watched

class Killer(JobObserver):
    def progress(self, progress: Progress) -> None:
        if not lost and progress.stages and progress.stages.embedded_frames > 0:
            lost.append(progress.stages.embedded_frames)
            cluster.remove_node(doomed, allow_graceful=False)

machine = Machine(ray_address=cluster.address, actors=(3, 3), batch_size=8, runtime="openvino")
settings = JobSettings((archive,), index, model, machine=machine)
report = index_archive(settings, Killer())
print(json.dumps({"lost after": lost, "indexed": report.files_indexed, "points": report.points,
                  "outcome": report.outcome, "left out": [file.reason for file in report.left_out],
                  "columns": [name for name in received if isinstance(name, str)],
                  "nodes": len([node for node in received if isinstance(node, tuple) and node[1]])}))
cluster.shutdown()
"""

GPUS = """
import ray
from ray._private.state import actors

from workers.cluster import Resources

# The GPU is Ray's word only: the network computes on the node's processor.
Resources.device = "cpu"
# A head that only keeps the books, as in docker-compose.yml and deploy/.
cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
cluster.add_node(num_cpus=2)
gpu_node = cluster.add_node(num_cpus=2, num_gpus=1)
cluster.wait_for_nodes()
pool = []

class Watch(JobObserver):
    def progress(self, progress: Progress) -> None:
        if ray.is_initialized():
            found = [actor for actor in actors().values() if "EmbeddingActor" in actor["ActorClassName"]]
            pool.append([actor["Address"]["NodeID"] for actor in found if actor["State"] == "ALIVE"])

machine = Machine(ray_address=cluster.address, actors=(1, 2), gpus=0.5, batch_size=1)
settings = JobSettings((archive,), index, model, machine=machine)
report = index_archive(settings, Watch())
print(json.dumps({"points": report.points, "gpu node": gpu_node.node_id, "pool": pool}))
cluster.shutdown()
"""


def run(script: str, *arguments: Path | str, cwd: Path) -> dict[str, Any]:
    """What the script prints last, in a process of its own: a cluster leaves its mark on the process that made it."""
    done = subprocess.run(
        [sys.executable, "-P", "-c", BEGINNING + script, *arguments],
        capture_output=True,
        text=True,
        check=False,
        cwd=cwd,
        env={**os.environ, "RAY_AUTH_MODE": "disabled", "PYTHONPATH": str(Path(__file__).parents[2])},
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    result: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return result


def test_a_lost_node_costs_no_image_and_no_feature_passes_through_the_jobs_process(
    tmp_path: Path, model_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CBMIR_STATE", str(tmp_path / "state"))
    archive = tmp_path / "archive"
    archive.mkdir()
    files = phantoms.write_repository(archive, images=16, side=64)
    (tmp_path / "index.py").write_text("raise RuntimeError('a user\\'s own file')")  # the nodes must not take it
    with StandInProcess(tmp_path / "server") as server:
        index = f"http://127.0.0.1:1/x?grpc_port={server.port}"
        result = run(LOSS, archive, model_path, index, cwd=tmp_path)
        with open_index(parse_address(index), purpose="test") as opened:
            assert opened.count() == result["points"] == files - 1 + 3  # one file has four frames
    assert result["lost after"]
    assert result["nodes"] >= 2
    assert {"identity", "kept_as"} < set(result["columns"])
    assert "fcl1" not in result["columns"]
    assert result["outcome"] == "complete"
    assert (result["indexed"], result["left out"]) == (files - 1, ["corrupt or truncated"])


def test_the_pool_grows_on_the_node_that_has_the_gpu(tmp_path: Path, model_path: Path) -> None:
    archive = tmp_path / "archive"
    archive.mkdir()
    files = phantoms.write_repository(archive, images=60, side=64)
    result = run(GPUS, archive, model_path, tmp_path / "index", cwd=tmp_path)
    assert result["points"] == files - 1 + 3
    sizes = [len(nodes) for nodes in result["pool"]]
    assert max(sizes) == 2
    assert next(size for size in sizes if size) == 1, sizes
    assert {node for nodes in result["pool"] for node in nodes} == {result["gpu node"]}
