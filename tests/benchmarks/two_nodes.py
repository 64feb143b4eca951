"""What a second node adds where the nodes' own storing is the limit: nothing that it stores passes through the job.

``python -m tests.benchmarks.two_nodes [--images 10000]``. Ray simulates the nodes on this machine, so that their stages
are slowed until its processors are not the limit: the network costs nothing, and each storing actor stores 256 images a
second.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any
from unittest.mock import patch

from model.network.bundled import find_model
from tests.benchmarks import free
from tests.benchmarks.apart import measure_apart
from tests.benchmarks.archive import write_archive
from tests.benchmarks.figures import Figure, print_figures, print_machine
from tests.support.stand_in.process import StandInProcess
from workers.indexing import storing, storing_actor
from workers.indexing.settings import Machine

SECONDS_AN_IMAGE = 1 / 256


class SlowStoring(storing_actor.StoringActor):
    """A storing actor far from its server."""

    def store(self, number: int, rows: Any, ids: Any, payloads: Any) -> None:
        """Store after a while."""
        time.sleep(len(ids) * SECONDS_AN_IMAGE)
        super().store(number, rows, ids, payloads)


def run(model: Path, images: int, work: Path) -> list[Figure]:
    """The rate of one node and of two."""
    archive = write_archive(work / "archive", images)
    one, two = (_measure(nodes, archive, model, work) for nodes in (1, 2))
    return [
        Figure("one node", f"{one['rate']:,.0f} images/s", "slowed to 256 images/s"),
        Figure("two nodes", f"{two['rate']:,.0f} images/s", "one node", two["rate"] / one["rate"], ">= 1.80"),
        Figure("  through the job's own process", f"{two['bytes']:,.0f} bytes an image", "features: 8,192"),
    ]


def _measure(nodes: int, archive: Path, model: Path, work: Path) -> dict[str, Any]:
    output = work / "free.json"
    with StandInProcess(work / f"server{nodes}") as server:
        given = ("--job", nodes, archive, f"http://127.0.0.1:1/x?grpc_port={server.port}", model, output)
        place = {"RAY_AUTH_MODE": "disabled", "CBMIR_STATE": str(work / f"state{nodes}")}
        return measure_apart("tests.benchmarks.two_nodes", *given, output=output, **place)


def _job(nodes: str, archive: str, index: str, model: str, output: str) -> None:
    from ray.cluster_utils import Cluster

    from tests.benchmarks.two_nodes import SlowStoring as Slow  # by its name, which Ray's workers know

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0})
    for _ in range(int(nodes)):
        cluster.add_node(num_cpus=2)
    cluster.wait_for_nodes()
    with patch.object(storing_actor, "StoringActor", Slow), patch.object(storing, "REQUESTS_A_NODE", 1):
        machine = Machine(ray_address=cluster.address, actors=(int(nodes), int(nodes)))
        free.main(archive, index, model, output, machine)
    cluster.shutdown()


def main() -> None:
    """Measure with what the command line gives."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", type=Path)
    parser.add_argument("--images", type=int, default=10_000)
    parser.add_argument("--job", nargs=5)
    arguments = parser.parse_args()
    if arguments.job:
        _job(*arguments.job)
        return
    print_machine()
    with tempfile.TemporaryDirectory(prefix="cbmir-bench-") as work:
        print_figures(run(find_model(arguments.model), arguments.images, Path(work)))


if __name__ == "__main__":
    main()
