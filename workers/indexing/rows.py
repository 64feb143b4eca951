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
    *((name, pa.float64() if name == "slice_mm" else pa.string()) for name in Header.__dataclass_fields__),
    ("reason", pa.string()),  # why the frame or, with frame 0, the file was left out; null for a good frame
    ("detail", pa.string()),
]


def frames_schema(prepare: AnyPreparation) -> pa.Schema:
    """Decoded frames; ``pixels`` are uint8 of the preparation's shape."""
    return pa.schema([*_FILE, ("pixels", pa.binary(prepare.bytes))])


FEATURE = np.dtype(np.float16)
"""Type of the features from the network to the index, which stores them so."""


_PREDICTION = [("best_guess", pa.int32()), ("organ_probability", pa.float32()), ("known", pa.bool_())]

KEPT_BY, KEPT_AS, KEPT_ROW = "kept_by", "kept_as", "kept_row"
"""Where a frame's features are kept (:mod:`workers.indexing.storing_actor`): the node, the number there, and the row
of them; null for what was left out."""


def embedded_schema(dimensions: Mapping[str, int]) -> pa.Schema:
    """Embedded frames: the likeliest class by number, its probability, whether it is known, and one feature a layer."""
    features = [(layer, pa.binary(values * FEATURE.itemsize)) for layer, values in dimensions.items()]
    return pa.schema([*_FILE, *_PREDICTION, *features])


def kept_schema() -> pa.Schema:
    """Embedded frames, as :func:`embedded_schema`; instead of their features, where those are kept."""
    return pa.schema([*_FILE, *_PREDICTION, (KEPT_BY, pa.string()), (KEPT_AS, pa.int64()), (KEPT_ROW, pa.int32())])


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


def to_matrix(column: pa.ChunkedArray, dtype: np.dtype[Any]) -> NDArray[Any]:
    """A fixed-size binary column of numbers as ``(n, d)``, without a copy where it is in one piece; nulls are zero."""
    width = column.type.byte_width // dtype.itemsize
    pieces = [
        np.frombuffer(chunk.buffers()[1], dtype)[chunk.offset * width : (chunk.offset + len(chunk)) * width]
        if chunk.buffers()[1]
        else np.zeros(len(chunk) * width, dtype)
        for chunk in column.chunks
    ]
    whole = pieces[0] if len(pieces) == 1 else np.concatenate([np.empty(0, dtype), *pieces])
    return whole.reshape(len(column), width)


def to_binary(values: NDArray[Any]) -> pa.Array:
    """``(n, d)`` as a fixed-size binary column of ``n`` rows, without copying the rows one by one."""
    rows = np.ascontiguousarray(values)
    width = rows.shape[1] * rows.itemsize
    return pa.Array.from_buffers(pa.binary(width), len(rows), [None, pa.py_buffer(rows)])
