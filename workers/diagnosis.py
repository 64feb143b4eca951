"""Whether a job could run: Ray, started here or joined, and the shared memory that its workers pass images through."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

from model.diagnosis import Check
from model.errors import JobError
from workers.cluster import OBJECT_STORE_BYTES, object_store_bytes, ray_session, share_resources

_SHARED_MEMORY = Path("/dev/shm")  # noqa: S108 (where Linux has it)


def check_ray(address: str | None) -> Iterator[Check]:
    """Start Ray here, or join the cluster at ``address``, and see what it offers."""
    name = f"Ray {version('ray')}"
    try:
        with ray_session(address):
            import ray

            total = ray.cluster_resources()
            cpus, gpus = total.get("CPU", 0.0), total.get("GPU", 0.0)
            if not cpus:
                yield Check(name, "lacking", "the cluster has no processors", "start a worker, or wait for one to join")
                return
            share = share_resources(cpus, gpus, actors=None, actor_gpus=None, batch_size=None)
            where = f"cluster of {len(ray.nodes())} nodes" if address else "started here"
            pool = f"up to {share.actors[1]} embedding actors on {share.device}"
            yield Check(name, "fine", f"{where}: {cpus:g} CPUs, {gpus:g} GPUs, {pool}")
    except JobError as error:
        yield Check(name, "lacking", str(error), "see 'cbmir --debug doctor' for Ray's own words")


def check_shared_memory() -> Iterator[Check]:
    """The file system that backs Ray's object store."""
    if not _SHARED_MEMORY.is_dir():
        yield Check("shared memory", "note", f"there is no {_SHARED_MEMORY}: Ray uses files, slower")
        return
    size = shutil.disk_usage(_SHARED_MEMORY).total
    detail = f"{size / 2**20:,.0f} MB, a job takes {object_store_bytes(None) / 2**20:,.0f} MB"
    if size < OBJECT_STORE_BYTES * 1.1:
        yield Check(
            "shared memory", "note", detail, "in a container give --shm-size 1g; Ray uses slower files otherwise"
        )
    else:
        yield Check("shared memory", "fine", detail)
