"""The tables that flow through the pipeline: one row a frame, and one a file that was left out.

A row carries everything of its own picture, so that a skipped file cannot shift anything onto another.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from model.errors import Reason
from model.images.frames import BrokenFrame, Frame, Header
from model.network.preparation import AnyPreparation

_FILE = [
    ("file", pa.int64()),  # number of the file within its window
    ("frame", pa.int32()),
    ("of", pa.int32()),  # rows that the file has in all, unless one says with frame 0 that it was left out
    ("identity", pa.string()),
    *((name, pa.string()) for name in Header.__dataclass_fields__),
    ("reason", pa.string()),  # why the frame or, with frame 0, the file was left out; null for a good frame
    ("detail", pa.string()),
]


def frames_schema(prepare: AnyPreparation) -> pa.Schema:
    """Decoded frames; ``pixels`` are uint8 of the preparation's shape."""
    return pa.schema([*_FILE, ("pixels", pa.binary(prepare.bytes))])


FEATURE = np.dtype(np.float16)
"""Type of the features from the network to the index, which stores them so."""


def embedded_schema(dimensions: Mapping[str, int]) -> pa.Schema:
    """Embedded frames: the likeliest class by number, its probability, whether it is known, and one feature a layer."""
    features = [(layer, pa.binary(values * FEATURE.itemsize)) for layer, values in dimensions.items()]
    prediction = [("best_guess", pa.int32()), ("organ_probability", pa.float32()), ("known", pa.bool_())]
    return pa.schema([*_FILE, *prediction, *features])


def frame_row(file: int, frame: Frame, pixels: NDArray[np.uint8]) -> dict[str, Any]:
    """The row of one frame, beside what of it enters the network."""
    header = {name: getattr(frame.header, name) for name in Header.__dataclass_fields__}
    return {
        "file": file,
        "frame": frame.number,
        "of": frame.of,
        "identity": frame.identity,
        **header,
        "pixels": pixels.tobytes(),
    }


def broken_row(file: int, frame: BrokenFrame) -> dict[str, Any]:
    """The row of a frame that was left out, of a file whose other frames perhaps were not."""
    reason, detail = frame.reason.value, frame.detail
    return {"file": file, "frame": frame.number, "of": frame.of, "reason": reason, "detail": detail}


def left_out_row(file: int, reason: Reason, detail: str) -> dict[str, Any]:
    """The row of a file that was left out: no picture, one row in all."""
    return {"file": file, "frame": 0, "of": 1, "reason": reason.value, "detail": detail}


def to_table(rows: Sequence[dict[str, Any]], schema: pa.Schema) -> pa.Table:
    """Rows of decoded frames as a table; thirty times as fast as ``Table.from_pylist``."""
    return pa.table({field.name: pa.array([row.get(field.name) for row in rows], field.type) for field in schema})


def to_array(column: pa.ChunkedArray, dtype: Any, shape: tuple[int, ...]) -> NDArray[Any]:
    """A fixed-size binary column as ``(n, *shape)``."""
    return np.frombuffer(b"".join(column.to_pylist()), dtype=dtype).reshape(len(column), *shape)


def to_binary(values: NDArray[Any]) -> pa.Array:
    """``(n, d)`` as a fixed-size binary column of ``n`` rows, without copying the rows one by one."""
    rows = np.ascontiguousarray(values)
    width = rows.shape[1] * rows.itemsize
    return pa.Array.from_buffers(pa.binary(width), len(rows), [None, pa.py_buffer(rows)])
