"""A job's stay in Ray: its share of the processors, and the counters of its stages."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import ExitStack, suppress
from dataclasses import fields
from types import TracebackType
from typing import Any, Self

import ray
from ray.exceptions import RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from index.address import Address
from workers.cluster import Resources, ray_session, share_resources
from workers.indexing.counters import Counters, StageCounts
from workers.indexing.manners import Manners
from workers.indexing.settings import Machine
from workers.indexing.storing import start_storing


class Session:
    """Ray, started or joined, until the context ends.

    Attributes:
        resources: what each worker takes of what Ray has now.
        counters: handle of the :class:`workers.indexing.counters.Counters` to which the workers report.
        storing: by node, handles of the :class:`workers.indexing.storing_actor.StoringActor` there; none where the
            job's own process stores.

    Args:
        machine: what the job may use.
        server: the index, where it is a server's.
        manners: by which a PACS is asked.
    """

    resources: Resources
    counters: Any
    storing: dict[str, Any]

    def __init__(self, machine: Machine, server: Address | None, manners: Manners) -> None:
        self._machine, self._server, self._manners = machine, server, manners
        self._stack = ExitStack()
        self._before = self._last = StageCounts()

    def __enter__(self) -> Self:
        machine = self._machine
        self._own = not ray.is_initialized()
        self._stack.enter_context(ray_session(machine.ray_address, cpus=machine.cpus, debug=machine.debug))
        total = ray.cluster_resources()
        nodes = [node["Resources"].get("CPU", 0.0) for node in ray.nodes() if node["Alive"]]
        gpus = total.get("GPU", 0.0)
        if gpus and self._own and not machine.ray_address and machine.gpus is None and not _torch_has_gpus():
            gpus = 0.0
        self.resources = share_resources(
            total.get("CPU", 1.0),
            gpus,
            node_cpus=max(nodes, default=None),
            actors=machine.actors,
            actor_gpus=machine.gpus if machine.runtime == "torch" else 0.0,
            batch_size=machine.batch_size,
        )
        # Beside the driver: on a node that is lost it would take the tasks that report to it along.
        here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
        actor = ray.remote(num_cpus=0, max_restarts=-1, max_task_retries=-1, scheduling_strategy=here)(Counters)
        self.counters = actor.remote(self._manners)
        self._start_storing()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._kill((self.counters, *self.storing.values()))
        self._stack.close()

    def _start_storing(self) -> None:
        living = [str(node["NodeID"]) for node in ray.nodes() if node["Alive"]]
        self.storing = start_storing(self._server, living) if self._server else {}

    def _kill(self, actors: Iterable[Any]) -> None:
        for actor in actors:
            with suppress(RayError):
                ray.kill(actor)  # in a Ray that goes on it would go on, too, as long as anything refers to it

    def counts(self) -> StageCounts:
        """The stages' totals so far, over all stays."""
        self._last = _sum(self._before, ray.get(self.counters.counts.remote()))
        return self._last

    def renew(self) -> None:
        """Leave Ray and come back, to share what is left after a loss.

        When a job leaves, Ray ends all of its processes. Without that, actors of a pipeline that failed were seen to
        keep their processors on the other nodes for minutes, and nothing was left to decode with. In a Ray that was
        there before the job only those who store begin anew, without what they have kept.
        """
        if not self._own:
            self._kill(self.storing.values())
            self._start_storing()
            return
        try:
            self._before = self.counts()
        except RayError:
            self._before = self._last
        self._stack.close()
        self.__enter__()


def _torch_has_gpus() -> bool:
    """Ray also counts GPUs that an installation of torch for processors, or an old driver, cannot use."""
    import torch

    return torch.cuda.is_available()


def _sum(one: StageCounts, other: StageCounts) -> StageCounts:
    names = (field.name for field in fields(StageCounts))
    return StageCounts(**{name: getattr(one, name) + getattr(other, name) for name in names})
