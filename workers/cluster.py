"""Starting Ray on this machine, or joining a cluster, and sharing its processors between the stages."""

from __future__ import annotations

import logging
import os
import shutil
import socket
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tenacity import Retrying, stop_after_attempt, wait_random

from model.errors import JobError, SettingError
from workers.indexing.settings import check_actors
from workers.ray_folders import temporary_folder, token

OBJECT_STORE_BYTES = 2**28
"""Least shared memory of a local Ray: frames wait in it between the stages, so it bounds the pipeline's memory."""

CORE_OBJECT_STORE_BYTES = 2**27
"""Of it for each core, as each decodes: 2 GB on 16 cores, where 256 MB would be 16 MB of frames a core."""

LISTENER_SECONDS = 5.0
"""Time within which a cluster's head takes a connection."""

START_ATTEMPTS = 3
"""Times that a Ray is started here: of two that start at the same moment one was seen not to come up."""

MAX_CPU_ACTORS = 8
"""Most embedding actors by default on a machine, or node, without GPU; beyond, each gets more threads."""


@dataclass(frozen=True, slots=True)
class Resources:
    """What each worker of the two stages takes.

    Attributes:
        actors: least and most embedding actors.
        actor_cpus, actor_gpus: Ray resources of one actor.
        actor_threads: torch threads of one actor on a CPU.
        decode_cpus: Ray CPUs of one decoding task; never those of an actor, or Ray would fuse the two stages into one.
        decode_tasks: decoding tasks that run at once when all actors are there.
        batch_size: frames that an actor embeds at once.
    """

    actors: tuple[int, int]
    actor_cpus: float
    actor_gpus: float
    actor_threads: int
    decode_cpus: float
    decode_tasks: int
    batch_size: int

    @property
    def device(self) -> str:
        """The torch device of an actor."""
        return "cuda" if self.actor_gpus else "cpu"


def share_resources(
    cpus: float,
    gpus: float,
    *,
    node_cpus: float | None = None,
    actors: tuple[int, int] | None,
    actor_gpus: float | None,
    batch_size: int | None,
) -> Resources:
    """Divide a machine or cluster between decoding and embedding.

    On GPUs every actor takes one (or the share asked for), and all but its CPU decode. On CPUs the network dominates.
    There every core gets an actor of one thread, as the threads of one actor all wait for the one that has to share its
    core with decoding (the network alone, on 2 cores: 89 images/s in two such processes, 87 in one of two threads). The
    actors reserve less than half of Ray's CPUs, though their threads use them all: actors that held every CPU would
    leave none to decode, and the job would hang.

    Args:
        cpus: CPUs of all nodes together.
        gpus: GPUs of all nodes together.
        node_cpus: CPUs of the largest node, on which each actor must find room; by default ``cpus``, as of one node.
        actors: least and most embedding actors; by default as many as the CPUs or GPUs allow.
        actor_gpus: share of a GPU, or whole number of them, of each actor.
        batch_size: frames that an actor embeds at once.

    Raises:
        SettingError: more is asked for than there is.
    """
    if actors:
        check_actors(actors)
    per_actor = actor_gpus if actor_gpus is not None else float(gpus > 0)
    if per_actor > gpus:
        raise SettingError(f"--gpus {per_actor:g} asks for more than the {gpus:g} GPUs that Ray sees here")
    if per_actor > 1 and per_actor != int(per_actor):
        raise SettingError(f"--gpus {per_actor:g} makes no sense: give a share of one GPU, or a whole number")
    node_cpus = node_cpus or cpus
    if per_actor:
        # A share lies on one GPU: three of 0.3 find room on each, and of 0.4 only two.
        room = int(gpus) * int(1 / per_actor + 1e-9) if per_actor <= 1 else int(gpus / per_actor)
        low, high = actors or (1, room)
        if high > room:
            raise SettingError(
                f"{high} actors with {per_actor:g} GPUs each do not fit on the {gpus:g} that Ray sees here: {room} do"
            )
        actor_cpus, threads = min(1.0, 0.48 * cpus / high), 1
    else:
        low, high = actors or (min(int(cpus), MAX_CPU_ACTORS * max(1, round(cpus / node_cpus))),) * 2
        actor_cpus, threads = 0.48 * min(cpus / high, node_cpus), max(1, int(min(cpus // high, node_cpus)))
    decode_cpus = 1.0 if cpus > 1 else 0.25  # one task at a time on two cores, so that the network keeps their cache
    if actor_cpus == decode_cpus:
        actor_cpus *= 0.9
    size = batch_size or (256 if per_actor else 64)
    decode_tasks = max(1, int((cpus - high * actor_cpus) / decode_cpus))
    return Resources((low, high), actor_cpus, per_actor, threads, decode_cpus, decode_tasks, size)


def object_store_bytes(cpus: int | None) -> int:
    """Shared memory of a local Ray of so many processors (by default all): at most half of what there is."""
    shared = shutil.disk_usage("/dev/shm").total if Path("/dev/shm").is_dir() else 0  # noqa: S108 (Ray's place)
    wanted = CORE_OBJECT_STORE_BYTES * (cpus or os.cpu_count() or 1)
    return max(OBJECT_STORE_BYTES, min(wanted, shared // 2))


def set_ray_environment() -> None:
    """Tell Ray, before it is imported, not to report home, and never to start itself.

    A thread of a pipeline that was cut off would start a second Ray when it cleans up after the first has ended.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    os.environ.setdefault("RAY_ENABLE_AUTO_CONNECT", "0")


@contextmanager
def ray_session(address: str | None, *, cpus: int | None = None, debug: bool = False) -> Iterator[None]:
    """Start Ray here, or join the cluster at ``address``, and leave it again.

    The runtime environment's ``working_dir`` is an empty folder: Ray would put the driver's own working directory first
    on its workers' path, where a user's ``model.py`` or ``index/`` would take the place of this program's packages. To
    a cluster's nodes those packages are sent along, so that all of them run the driver's version.

    Raises:
        JobError: Ray cannot be started, or the cluster not be joined.
    """
    set_ray_environment()
    if address:
        _require_listener(address)
    if not address:  # nobody looks at the metrics and task events of a Ray without dashboard
        os.environ.setdefault("RAY_enable_metrics_collection", "0")
        os.environ.setdefault("RAY_task_events_report_interval_ms", "0")
        # A worker for each processor would start before it is known what is needed, and take its share of the start.
        os.environ.setdefault("RAY_prestart_worker_first_driver", "0")
    import ray

    own = not ray.is_initialized()
    local: dict[str, Any] = {}
    with ExitStack() as stack:
        folder = temporary_folder()
        empty = stack.enter_context(tempfile.TemporaryDirectory(prefix="cbmir-empty-", dir=folder))
        if own and not address:
            stack.enter_context(token())
            local = {"num_cpus": cpus, "object_store_memory": object_store_bytes(cpus), "include_dashboard": False}
            local["_temp_dir"] = str(folder / "ray")
        if own:
            try:
                _connect(
                    1 if address else START_ATTEMPTS,
                    address=address or "local",
                    runtime_env={"working_dir": empty} | ({"py_modules": _own_packages()} if address else {}),
                    # Ray calls it an error that its dashboard, which nobody has asked for, has not come up.
                    logging_level=logging.INFO if debug else logging.CRITICAL,
                    log_to_driver=debug,
                    **local,
                )
            except Exception as error:  # Ray raises ConnectionError, RuntimeError, ValueError and its own
                what = "Ray cannot be started here"
                if address:
                    hint = "is it running, and has this shell its RAY_AUTH_TOKEN?"
                    what = f"the Ray cluster at {address} cannot be joined ({hint})"
                raise JobError(f"{what}: {error}") from error
        try:
            yield
        finally:
            if own:
                ray.shutdown()


def _require_listener(address: str) -> None:
    """See that somebody listens at a cluster's address: Ray itself would try again for minutes without a word.

    Raises:
        JobError: nobody does.
    """
    named = os.environ.get("RAY_ADDRESS", "") if address == "auto" else address
    host, _, port = named.rpartition("://")[2].rpartition(":")
    if not (host and port.isdigit()):
        return  # "auto", which Ray looks up itself
    try:
        socket.create_connection((host.strip("[]"), int(port)), LISTENER_SECONDS).close()
    except OSError as error:
        raise JobError(
            f"nobody listens at {named}, where a Ray cluster should be ({error.strerror or error}): start it, or "
            "correct --ray-address"
        ) from error


def _connect(attempts: int, **settings: Any) -> None:
    """Call ``ray.init``, again if it fails, without leaving a half-started Ray behind."""
    import ray

    for attempt in Retrying(stop=stop_after_attempt(attempts), wait=wait_random(1, 3), reraise=True):
        with attempt, ExitStack() as half_started:
            half_started.callback(ray.shutdown)
            ray.init(**settings)
            half_started.pop_all()


def _own_packages() -> list[str]:
    """Folders of this program's packages."""
    return [str(Path(__file__).parents[1] / package) for package in ("cli", "workers", "index", "model")]
