"""The Ray Data pipeline of one window: shards are read and decoded in tasks, frames embedded by a pool of actors."""

from __future__ import annotations

import logging
import math
import warnings
from collections.abc import Generator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import pyarrow as pa
import ray
from ray.data import ActorPoolStrategy, DataContext, Dataset
from ray.data.block import BlockMetadata
from ray.data.datasource import Datasource, ReadTask

from model.images.reading import ReadOptions
from model.network.preparation import AnyPreparation
from model.pacs.access import BY_DEFAULT, Access
from model.pacs.address import is_pacs
from workers.cluster import Resources
from workers.indexing.planning import PendingFile
from workers.indexing.rows import frames_schema
from workers.indexing.stages import EmbeddingActor, Network, Shard, decode_shard

SHARD_FILES = 256
"""Most files that one task decodes: 0.3 s of uncompressed 256 × 256 images, 13 MB of network input."""

SHARDS_AN_ACTOR = 4
"""Least number of shards for each actor, so that a small window keeps all of them busy."""

DECODE_RETRIES = 3
"""Times that a decoding task is run again after its process died; Ray Data's own default has no end."""


EMBED_RETRIES = 3
"""Times that a batch is embedded again after its actor died; Ray Data's own default has no end."""


class RepositorySource(Datasource):
    """A window of files as a Ray Data source; each read task decodes one shard.

    ``most_tasks`` may read at once: where there is a PACS, as many as share the connections to it.
    """

    def __init__(
        self,
        files: Sequence[PendingFile],
        first_shard: int,
        *,
        actors: int,
        file_seconds: float,
        options: ReadOptions,
        prepare: AnyPreparation,
        counters: Any,
        access: Access = BY_DEFAULT,
        paced: bool = False,
        decode_tasks: int = 1,
    ) -> None:
        super().__init__()
        tasks = min(access.connections, decode_tasks)
        share = replace(access, connections=access.connections // tasks)
        size = min(SHARD_FILES, math.ceil(len(files) / (actors * SHARDS_AN_ACTOR)))
        numbered = [(number, file.address) for number, file in enumerate(files)]
        self.shards = [
            Shard(first_shard + n // size, tuple(numbered[n : n + size]), file_seconds, options, prepare, share, paced)
            for n in range(0, len(numbered), size)
        ]
        self._counters, self._prepare = counters, prepare
        self.most_tasks = tasks if any(is_pacs(file.address) for file in files) else None

    def get_name(self) -> str:
        """The name of the stage in Ray's plans."""
        return "Repository"

    def estimate_inmemory_data_size(self) -> int:
        """Bytes of all decoded frames, if every file holds one."""
        return sum(len(shard.files) for shard in self.shards) * self._prepare.bytes

    def get_read_tasks(self, _parallelism: int, *_: Any, **__: Any) -> list[ReadTask]:
        """One task a shard, however many Ray would like."""
        return [
            ReadTask(
                partial(decode_shard, shard, self._counters),
                BlockMetadata(num_rows=None, size_bytes=None, input_files=None, exec_stats=None),
                schema=frames_schema(self._prepare),
            )
            for shard in self.shards
        ]


def build_dataset(
    source: RepositorySource,
    network: Network,
    resources: Resources,
    counters: Any,
    keepers: Mapping[str, Any] | None = None,
) -> Dataset:
    """The lazy dataset: decode, then embed. The two stages are never fused, as their resources differ."""
    low, high = (min(actors, len(source.shards)) for actors in resources.actors)
    with warnings.catch_warnings():
        # Deprecated until Ray 2.64 in favour of named parameters, of which there is none for retries yet.
        warnings.filterwarnings("ignore", "`ray_remote_args` is deprecated")
        frames = ray.data.read_datasource(
            source,
            override_num_blocks=len(source.shards),
            concurrency=source.most_tasks,
            ray_remote_args={"num_cpus": resources.decode_cpus, "max_retries": DECODE_RETRIES},
        )
        return frames.map_batches(
            EmbeddingActor,
            fn_constructor_args=(
                network,
                resources.device,
                resources.actor_threads,
                counters,
                keepers,
            ),
            batch_size=resources.batch_size,
            batch_format="pyarrow",
            compute=ActorPoolStrategy(min_size=low, max_size=high),
            num_cpus=resources.actor_cpus,
            num_gpus=resources.actor_gpus,
            max_task_retries=EMBED_RETRIES,
        )


def run_pipeline(
    source: RepositorySource,
    network: Network,
    resources: Resources,
    counters: Any,
    keepers: Mapping[str, Any] | None = None,
    *,
    debug: bool,
) -> Generator[pa.Table, None, None]:
    """Stream a window through the pipeline; yield tables of embedded frames and of files left out, in any order.

    The arguments are those of the stages (:mod:`workers.indexing.stages`).
    """
    context = DataContext.get_current()
    context.enable_progress_bars = debug
    context.print_on_execution_start = debug
    context.memory_usage_poll_interval_s = (
        None  # reading every worker's memory map, for statistics, costs processor time
    )
    if not debug:
        logging.getLogger("ray.data").setLevel(logging.CRITICAL)  # its failures come to us as exceptions
    dataset = build_dataset(source, network, resources, counters, keepers)
    yield from dataset.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=0)
