"""The two stages that run in Ray workers: decoding in tasks, embedding in actors."""

from __future__ import annotations

import faulthandler
import gc
import multiprocessing
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from multiprocessing.connection import Connection
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from model.errors import ImageError, JobError, Reason
from model.preprocessing import INPUT, to_input
from model.reading import READ_ALL, ReadOptions, read_frames
from workers.rows import FEATURE, embedded_schema, frame_row, left_out_row, to_array, to_binary, to_table

ROWS_A_BLOCK = 256
"""Most rows in one block of decoded frames: 6 MB."""

SPAWN_SECONDS = 60.0
"""Time that a process of its own may take to start, on a busy machine, on top of a file's time."""

MAX_FRAMES = 20_000
"""Frames above which a file is left out: 1 GB of network input."""


@dataclass(frozen=True, slots=True)
class Shard:
    """A piece of a window: the numbers and addresses of some files, decoded by one task.

    After ``file_seconds`` a file's decoder counts as hanging.
    """

    number: int
    files: tuple[tuple[int, str], ...]
    file_seconds: float
    options: ReadOptions = READ_ALL


def decode_shard(shard: Shard, counters: Any) -> Iterator[pa.Table]:
    """Decode a shard's files into blocks of rows (see :data:`workers.rows.FRAMES`).

    A decoder that crashes or hangs takes its process with it; Ray then runs the task again, and this time every file is
    decoded in a process of its own, so that the culprit is named and the others are kept.

    Args:
        shard: which files.
        counters: handle of the job's :class:`workers.counters.Counters`.
    """
    import ray

    _freeze_imports()
    attempt = ray.get(counters.begin.remote(shard.number))
    decode = decode_file if attempt == 1 else decode_apart
    rows: list[dict[str, Any]] = []
    frames, left_out, started = 0, 0, time.perf_counter()
    try:
        for number, path in shard.files:
            file_rows = decode(number, path, shard.file_seconds, shard.options)
            failed = "reason" in file_rows[0]
            frames, left_out = frames + (0 if failed else len(file_rows)), left_out + failed
            rows += file_rows
            while len(rows) >= ROWS_A_BLOCK:
                _deadline.cancel()  # what follows is not the decoder's time
                yield to_table(rows[:ROWS_A_BLOCK])
                rows = rows[ROWS_A_BLOCK:]
    finally:
        _deadline.cancel()
    if rows:
        yield to_table(rows)
    counters.decoded.remote(frames, left_out, time.perf_counter() - started)


@cache
def _freeze_imports() -> None:
    """Spare the garbage collector what was imported: decoding makes many small objects, and it would look each time.

    In one pair of runs on 2 cores it saved a tenth of decoding's processor time.
    """
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)


class EmbeddingActor:
    """Holds the network on its device and embeds blocks of decoded frames.

    Args:
        model: path of the checkpoint, readable on every node.
        fingerprint: the one that the index expects.
        layers: whose features to keep.
        device: torch device.
        threads: torch threads on a CPU.
    """

    def __init__(
        self, model: str, fingerprint: str, layers: Sequence[str], device: str, threads: int, counters: Any
    ) -> None:
        import torch

        from model.embedder import Embedder

        torch.set_num_threads(threads)
        self._embedder = Embedder.load(model, device=device)
        if self._embedder.metadata.fingerprint != fingerprint:
            raise JobError(f"{model} was replaced while the job was starting: run the same command again")
        self._layers, self._counters = tuple(layers), counters

    def __call__(self, frames: pa.Table) -> pa.Table:
        """Embed the frames of a block; pass on the rows of files that were left out."""
        from model.network import FEATURES

        started = time.perf_counter()
        schema = embedded_schema(self._layers, FEATURES)
        readable = frames.filter(pc.is_null(frames["reason"]))
        skipped = frames.filter(pc.is_valid(frames["reason"])).drop_columns(["pixels"])
        tables = [pa.Table.from_pylist(skipped.to_pylist(), schema)]
        if readable.num_rows:
            images = to_array(readable["pixels"], np.uint8, (INPUT, INPUT))
            embeddings = self._embedder.embed(images, self._layers)
            organ = embeddings.probabilities.argmax(axis=1)
            with np.errstate(over="ignore"):  # beyond float16 is not finite, and left out below
                features = {layer: embeddings.features[layer].astype(FEATURE) for layer in self._layers}
            columns = {
                "organ": pa.array(organ, pa.int32()),
                "organ_probability": pa.array(embeddings.probabilities.max(axis=1), pa.float32()),
                **{layer: to_binary(values) for layer, values in features.items()},
            }
            embedded = readable.drop_columns(["pixels"])
            for name, column in columns.items():
                embedded = embedded.append_column(name, column)
            finite = np.all([np.isfinite(values).all(axis=1) for values in features.values()], axis=0)
            tables.append(_without_non_finite(embedded, finite).cast(schema))
        self._counters.embedded.remote(readable.num_rows, time.perf_counter() - started)
        return pa.concat_tables(tables)


def _without_non_finite(embedded: pa.Table, finite: Any) -> pa.Table:
    if finite.all():
        return embedded
    rows = embedded.to_pylist()
    for row, good in zip(rows, finite, strict=True):
        if not good:
            row |= {
                "reason": Reason.NON_FINITE.value,
                "detail": f"frame {row['frame']}: NaN or infinity: check the model",
            }
    return pa.Table.from_pylist(rows, embedded.schema)


class _Deadline:
    """Ends this process if it is not set anew in time.

    A decoder that hangs in C, perhaps holding the interpreter's lock, can only be ended with its process. Setting the
    timer starts a thread, so it is set at most once a second, and runs out up to a second early.
    """

    def __init__(self) -> None:
        self._set_at = 0.0

    def set(self, seconds: float) -> None:
        now = time.monotonic()
        if now - self._set_at > 1.0:
            faulthandler.dump_traceback_later(seconds, exit=True)
            self._set_at = now

    def cancel(self) -> None:
        faulthandler.cancel_dump_traceback_later()
        self._set_at = 0.0


_deadline = _Deadline()


def decode_file(number: int, path: str, seconds: float, options: ReadOptions = READ_ALL) -> list[dict[str, Any]]:
    """All rows of one file, or the one row that says why it was left out: never a part of a file.

    The caller cancels the deadline, ``seconds`` from now, after which this process is ended.
    """
    rows: list[dict[str, Any]] = []
    _deadline.set(seconds)
    try:
        for frame in read_frames(path, options=options):
            if frame.of > MAX_FRAMES:
                raise ImageError(path, Reason.TOO_LARGE, f"{frame.of:,} frames, limit {MAX_FRAMES:,}")
            rows.append(frame_row(number, frame, to_input(frame.pixels)))
    except ImageError as error:
        return [left_out_row(number, error.reason, error.detail)]
    except (MemoryError, OSError) as error:
        detail = getattr(error, "strerror", None) or type(error).__name__  # without the path, which may name a patient
        return [left_out_row(number, Reason.UNREADABLE, detail)]
    return rows


def decode_apart(number: int, path: str, seconds: float, options: ReadOptions = READ_ALL) -> list[dict[str, Any]]:
    """Decode one file in a process of its own; its death or its hanging leaves the file out and nothing else."""
    # Spawned, not forked: the Ray worker's threads hold locks that a forked child would wait for.
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_send_rows, args=(sender, number, path, seconds, options))
    process.start()
    sender.close()
    try:
        if receiver.poll(seconds + SPAWN_SECONDS):
            rows: list[dict[str, Any]] = receiver.recv()
            return rows
        return [left_out_row(number, Reason.CRASHED, f"its decoder had not ended after {seconds:g} s")]
    except EOFError:
        process.join()
        why = f"its decoder ended the process (exit code {process.exitcode}), or ran longer than {seconds:g} s"
        return [left_out_row(number, Reason.CRASHED, why)]
    finally:
        process.kill()
        process.join()


def _send_rows(sender: Connection, number: int, path: str, seconds: float, options: ReadOptions) -> None:
    rows = decode_file(number, path, seconds, options)
    _deadline.cancel()
    sender.send(rows)
