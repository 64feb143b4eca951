"""The same application on Ray Serve: replicas on a cluster's nodes, each with a model and an open index of its own.

Of an embedded index one replica holds the shard and answers the others, which must be on its machine; replicas on many
need an index on a server. Pictures that were brought are kept by an actor, as the next request may reach another one.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from fastapi import FastAPI

from model.errors import JobError, SettingError
from workers.cluster import ray_session
from workers.serving.application import make_application
from workers.serving.reading import KeptUploads
from workers.serving.retrieval import Retrieval
from workers.serving.settings import ServingSettings

NAME: Final = "cbmir"

_REQUESTS = 32
"""Under way in one replica at once; more wait in the proxy."""


@dataclass(frozen=True, slots=True)
class Replicas:
    """How many, and what each takes.

    Attributes:
        least, most: Ray Serve starts more while requests wait, and ends them again.
        cpus, gpus: Ray resources of one.
    """

    least: int = 1
    most: int = 1
    cpus: float = 1.0
    gpus: float = 0.0


def serve_on_ray(
    settings: ServingSettings,
    replicas: Replicas,
    ray_address: str | None,
    *,
    ready: Callable[[str], None],
    ended: threading.Event,
    debug: bool = False,
) -> None:
    """Serve from a Ray cluster until ``ended`` is set.

    Args:
        settings: what to serve.
        replicas: how many.
        ray_address: of the cluster; ``None`` starts a Ray here.
        ready: called with the address once a replica answers.
        ended: set by whoever wants it to end.
        debug: show Ray's log.

    Raises:
        JobError: the cluster cannot be joined, or a replica not be started.
        SettingError: TLS is asked for, which is a proxy's matter there.
    """
    access = settings.access
    if access.certificate:
        raise SettingError("--tls-certificate: on Ray a proxy before it speaks TLS: leave it out")
    with ray_session(ray_address, debug=debug):
        import ray
        from ray import serve

        def build() -> FastAPI:  # where it will run: nothing of an open index can be sent there
            return make_application(settings, lambda told: Retrieval(told, _SharedUploads(uploads)))

        uploads = ray.remote(_Uploads).options(num_cpus=0, max_restarts=-1).remote()
        try:
            serve.start("HeadOnly", http_options={"host": access.host, "port": access.port})
            application = serve.ingress(build)()
            deployment = serve.deployment(application).options(
                name=NAME,
                ray_actor_options={"num_cpus": replicas.cpus, "num_gpus": replicas.gpus},
                autoscaling_config={
                    "min_replicas": replicas.least,
                    "max_replicas": replicas.most,
                    "target_ongoing_requests": _REQUESTS / 4,
                },
                max_ongoing_requests=_REQUESTS,
            )
            serve.run(deployment.bind(), name=NAME, route_prefix="/")
        except Exception as error:  # Ray raises RuntimeError, and its own
            raise JobError(f"Ray Serve cannot be started, or no replica: {error}") from error
        try:
            ready(f"http://{access.host}:{access.port}")
            ended.wait()
        finally:
            serve.delete(NAME)


class _Uploads(KeptUploads):
    """See :class:`workers.serving.reading.KeptUploads`; a Ray actor."""


class _SharedUploads:
    """The pictures that were brought to any replica.

    Args:
        actor: that keeps them.
    """

    def __init__(self, actor: Any) -> None:
        self._actor = actor

    def keep(self, key: str, name: str, data: bytes) -> None:
        """Keep a picture under a key."""
        import ray

        ray.get(self._actor.keep.remote(key, name, data))

    def get(self, key: str) -> tuple[str, bytes] | None:
        """Name and bytes of a picture; ``None`` if it is forgotten."""
        import ray

        found: tuple[str, bytes] | None = ray.get(self._actor.get.remote(key))
        return found
