"""The two stages that run in Ray workers: decoding in tasks, embedding in actors."""

from __future__ import annotations

import atexit
import gc
import os
import secrets
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Any
from zlib import crc32

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from model.errors import ImageError, JobError, Reason
from model.images.reading import READ_ALL, ReadOptions
from model.network.preparation import PAPER, AnyPreparation
from model.pacs.access import BY_DEFAULT, Access
from workers.guarded import deadline
from workers.indexing.decoding import DecoderProcess, decode_file
from workers.indexing.fetching import fetched
from workers.indexing.rows import (
    FEATURE,
    KEPT_AS,
    KEPT_BY,
    KEPT_ROW,
    embedded_schema,
    frames_schema,
    kept_schema,
    left_out_row,
    to_array,
    to_binary,
    to_table,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from model.network.embedder import Embeddings

BLOCK_BYTES = 2**24
"""Most pixels in one block of decoded frames: 334 frames of the paper's network, 20 of 518 × 518 in colour."""

MOST_ROWS = 256
"""Most rows in one block, whatever their size."""


@dataclass(frozen=True, slots=True)
class Shard:
    """A piece of a window: the numbers and addresses of some files, decoded by one task.

    After ``file_seconds`` a file's decoder counts as hanging. By ``access`` a PACS is spoken to; turns
    at it are asked for if it is ``paced``.
    """

    number: int
    files: tuple[tuple[int, str], ...]
    file_seconds: float
    options: ReadOptions = READ_ALL
    prepare: AnyPreparation = PAPER
    access: Access = BY_DEFAULT
    paced: bool = False


def rows_a_block(prepare: AnyPreparation) -> int:
    """Most rows in one block: frames of a large network take little more of Ray's object store than others."""
    return max(1, min(MOST_ROWS, BLOCK_BYTES // prepare.bytes))


def decode_shard(shard: Shard, counters: Any) -> Iterator[pa.Table]:
    """Decode a shard's files into blocks of rows (see :func:`workers.indexing.rows.frames_schema`).

    A decoder that crashes or hangs takes its process with it; Ray then runs the task again, and this time the files are
    decoded in a process apart, so that the culprit is named and the others are kept.

    Args:
        shard: which files.
        counters: handle of the job's :class:`workers.indexing.counters.Counters`.
    """
    import ray

    exit_at_once()
    _freeze_imports()
    attempt = ray.get(counters.begin.remote(shard.number))
    rows: list[dict[str, Any]] = []
    schema, most = frames_schema(shard.prepare), rows_a_block(shard.prepare)
    frames, left_out, seconds = 0, 0, 0.0
    with ExitStack() as stack:
        stack.callback(deadline.cancel)
        decode = decode_file if attempt == 1 else stack.enter_context(DecoderProcess()).decode
        wait = (lambda: ray.get(counters.turn.remote())) if shard.paced else None
        for number, place in fetched(shard.files, shard.access, wait):
            started = time.perf_counter()
            if isinstance(place, ImageError):
                file_rows = [left_out_row(number, place.reason, place.detail)]
            else:
                file_rows = decode(number, place, shard.file_seconds, shard.options, shard.prepare)
                deadline.cancel()  # the next may be waited for, for hours where a PACS is to be left alone
            frames += sum("reason" not in row for row in file_rows)
            left_out += file_rows[0]["frame"] == 0
            rows += file_rows
            seconds += time.perf_counter() - started  # without the time in which nobody takes the rows
            while len(rows) >= most:
                deadline.cancel()  # what follows is not the decoder's time
                yield to_table(rows[:most], schema)
                rows = rows[most:]
    if rows:
        yield to_table(rows, schema)
    counters.decoded.remote(frames, left_out, seconds)


@cache
def exit_at_once() -> None:
    """End this worker's process without the handlers of Ray's C++ core, of which one was seen to wait for itself.

    Such a process (ray 2.60: a publisher's destructor, at exit) kept its memory and its actor's processors for good.
    A process that is no worker of Ray ends as it likes, with the exit code that it has.
    """
    import ray

    if ray.is_initialized() and ray.get_runtime_context().worker.mode == ray.WORKER_MODE:
        atexit.register(os._exit, 0)


@cache
def _freeze_imports() -> None:
    """Spare the garbage collector what was imported: decoding makes many small objects, and it would look each time.

    In one pair of runs on 2 cores it saved a tenth of decoding's processor time.
    """
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)


@dataclass(frozen=True, slots=True)
class Network:
    """The model of a job, as the actors need it.

    Attributes:
        path: of the model, readable on every node.
        fingerprint: the one that the index expects.
        layers: whose features to keep.
        runtime: see :data:`model.network.runtimes.Runtime`.
        heads: fingerprints of the heads among the layers, by name.
        probe: fingerprint of the probe; empty where the model names the classes itself.
        prepare: how frames become images for it.
    """

    path: str
    fingerprint: str
    layers: tuple[str, ...]
    runtime: str = "torch"
    heads: Mapping[str, str] = field(default_factory=dict)
    probe: str = ""
    prepare: AnyPreparation = PAPER


class EmbeddingActor:
    """Holds the network on its device and embeds blocks of decoded frames.

    Args:
        network: the model of the job.
        device: torch device.
        threads: torch threads, for a CPU.
        counters: handle of the job's :class:`workers.indexing.counters.Counters`.
        keepers: by node, handles of the :class:`workers.indexing.storing_actor.StoringActor` that keeps the features
            until they are stored; where there are none, they go on with the rows.
    """

    def __init__(
        self,
        network: Network,
        device: str,
        threads: int,
        counters: Any,
        keepers: Mapping[str, Any] | None = None,
    ) -> None:
        from model.network.embedder import Embedder

        exit_at_once()
        self._embedder = embedder = Embedder.load(
            network.path, device=device, runtime=network.runtime, threads=threads, probe=bool(network.probe)
        )
        heads = {name: head.fingerprint for name, head in embedder.heads.items() if name in network.heads}
        probe = embedder.probe.fingerprint if embedder.probe else ""
        if (embedder.metadata.fingerprint, heads, probe) != (network.fingerprint, network.heads, network.probe):
            raise JobError(f"{network.path} was replaced while the job was starting: run the same command again")
        self._layers, self._counters = network.layers, counters
        self._keeper = Keeper(keepers) if keepers else None

    def __call__(self, frames: pa.Table) -> pa.Table:
        """Embed the frames of a block; pass on the rows of files and frames that were left out."""
        started, seconds = time.perf_counter(), 0.0
        schema = embedded_schema({layer: self._embedder.layers[layer] for layer in self._layers})
        if self._keeper:
            schema = kept_schema()
        readable = frames.filter(pc.is_null(frames["reason"]))
        skipped = frames.filter(pc.is_valid(frames["reason"])).drop_columns(["pixels"])
        tables = [pa.Table.from_pylist(skipped.to_pylist(), schema)]
        if readable.num_rows:
            images = to_array(readable["pixels"], np.uint8, self._embedder.preparation.shape)
            embeddings = self._embedder.embed(images, self._layers)
            seconds = time.perf_counter() - started  # without the time in which there is no room for them
            with np.errstate(over="ignore"):  # beyond float16 is not finite, and left out below
                features = {layer: embeddings.features[layer].astype(FEATURE) for layer in self._layers}
            columns = {
                **_predictions(embeddings),
                **(self._keeper.keep(features) if self._keeper else _columns(features)),
            }
            embedded = readable.drop_columns(["pixels"])
            for name, column in columns.items():
                embedded = embedded.append_column(name, column)
            finite = np.all([np.isfinite(values).all(axis=1) for values in features.values()], axis=0)
            tables.append(_without_non_finite(embedded, finite).cast(schema))
        self._counters.embedded.remote(readable.num_rows, seconds)
        return pa.concat_tables(tables)


class Keeper:
    """Hands features to the storing actor of this node, or of any where this one has none.

    Args:
        keepers: by node, handles of :class:`workers.indexing.storing_actor.StoringActor`.
    """

    def __init__(self, keepers: Mapping[str, Any]) -> None:
        import ray

        here, nodes = ray.get_runtime_context().get_node_id(), sorted(keepers)
        self._node = here if here in keepers else nodes[crc32(here.encode()) % len(nodes)]
        self._actor = keepers[self._node]

    def keep(self, features: Mapping[str, NDArray[np.float16]]) -> dict[str, pa.Array]:
        """Return where they are, row by row, once they are there."""
        import ray

        number, rows = secrets.randbits(63), len(next(iter(features.values())))
        ray.get(self._actor.keep.options(concurrency_group="keep").remote(number, dict(features)))
        return {
            KEPT_BY: pa.array([self._node] * rows),
            KEPT_AS: pa.array([number] * rows, pa.int64()),
            KEPT_ROW: pa.array(np.arange(rows, dtype=np.int32)),
        }


def _columns(features: Mapping[str, NDArray[np.float16]]) -> dict[str, pa.Array]:
    return {layer: to_binary(values) for layer, values in features.items()}


def _predictions(embeddings: Embeddings) -> dict[str, pa.Array]:
    """The likeliest class of each image; nulls of a model that has no classes."""
    probabilities = embeddings.probabilities
    if not probabilities.shape[1]:
        nothing = len(probabilities)
        kinds = {"best_guess": pa.int32(), "organ_probability": pa.float32(), "known": pa.bool_()}
        return {name: pa.nulls(nothing, kind) for name, kind in kinds.items()}
    return {
        "best_guess": pa.array(probabilities.argmax(axis=1), pa.int32()),
        "organ_probability": pa.array(probabilities.max(axis=1), pa.float32()),
        "known": pa.array(embeddings.known),
    }


def _without_non_finite(embedded: pa.Table, finite: Any) -> pa.Table:
    if finite.all():
        return embedded
    rows = embedded.to_pylist()
    for row, good in zip(rows, finite, strict=True):
        if not good:
            row |= {
                "reason": Reason.NON_FINITE.value,
                "detail": "NaN or infinity: check the model",
            }
    return pa.Table.from_pylist(rows, embedded.schema)
