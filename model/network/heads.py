"""Heads: linear maps behind a layer, fitted on labelled images, whose few values retrieve better than the layer's own.

A head is one more layer. It lies beside its model in a file of its own, so that adding one changes no model, and no
index that was made with it.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from model.errors import CheckpointError
from model.files import let_others_read, written_whole
from model.network.metadata import read_metadata

SUFFIX: Final = ".head.safetensors"
"""A head called ``projected`` of ``mine.safetensors`` lies in ``mine.projected.head.safetensors``."""

DEFAULT_NAME: Final = "projected"

FORMAT: Final = 1

_KEY: Final = "cbmir-head"

NAME: Final = re.compile(r"[a-z][a-z0-9_-]{0,31}")


@dataclass(frozen=True, slots=True)
class HeadDescription:
    """What a head says of itself, read without its weights.

    Attributes:
        name: of the layer that it adds.
        layer: whose features it maps.
        model: fingerprint of the model that it was fitted on.
        values: how many it gives.
        normalised: whether each vector is divided by its length, so that Euclidean distances rank as cosines do.
        fingerprint: 32 hexadecimal digits over all of this and the weights.
        data: on what it was fitted: images, classes, and the hash of their list.
    """

    name: str
    layer: str
    model: str
    values: int
    normalised: bool
    fingerprint: str = ""
    data: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Head:
    """A head with its weights.

    Attributes:
        description: what it is.
        mean: ``(n,)`` float32, taken off a feature of ``n`` values first.
        matrix: ``(n, values)`` float32.
    """

    description: HeadDescription
    mean: NDArray[np.float32]
    matrix: NDArray[np.float32]

    def __call__(self, features: NDArray[np.float32]) -> NDArray[np.float32]:
        """Map ``(images, n)`` features to ``(images, values)`` float32."""
        projected = (features - self.mean) @ self.matrix
        if self.description.normalised:
            projected /= np.maximum(np.linalg.norm(projected, axis=1, keepdims=True), np.finfo(np.float32).tiny)
        return np.asarray(projected, np.float32)


def head_path(model: Path, name: str) -> Path:
    """Where a model's head of that name lies."""
    return model / f"{name}{SUFFIX}" if model.is_dir() else model.with_name(f"{model.stem}.{name}{SUFFIX}")


def describe_heads(model: Path) -> dict[str, HeadDescription]:
    """The heads beside a model, by name.

    Raises:
        CheckpointError: one of them is damaged, or was fitted on another model, as after a new training in its place.
    """
    folder, start = (model, "") if model.is_dir() else (model.parent, f"{model.stem}.")
    paths = sorted(path for path in folder.glob(f"*{SUFFIX}") if path.name.startswith(start))
    names = [(path.name.removeprefix(start).removesuffix(SUFFIX), path) for path in paths]
    heads = {name: _describe(path) for name, path in names if NAME.fullmatch(name)}
    if heads:
        fingerprint = read_metadata(model).fingerprint
        for name, head in heads.items():
            if head.model != fingerprint:
                raise CheckpointError(
                    f"{head_path(model, name)} was fitted on another model (fingerprint {head.model[:8]}) than {model} "
                    f"({fingerprint[:8]}): move it away, and fit it anew with 'cbmir model project'"
                )
    return heads


def model_layers(model: Path) -> dict[str, int]:
    """How many values each layer of a model gives, by name, its heads among them; nothing of its weights is read.

    Raises:
        CheckpointError: the model or one of its heads is damaged.
    """
    return read_metadata(model).layers | {name: head.values for name, head in describe_heads(model).items()}


def default_layers(model: Path) -> tuple[str, ...]:
    """What a new index stores where nothing is asked for: a head's values, if there is one, else the first layer's."""
    return (next(iter((*describe_heads(model), *read_metadata(model).layers))),)


def load_head(model: Path, name: str) -> Head:
    """A model's head of that name.

    Raises:
        CheckpointError: it is absent or damaged.
    """
    path = head_path(model, name)
    description = _describe(path)
    with safe_open(path, framework="numpy") as file:
        return Head(description, file.get_tensor("mean"), file.get_tensor("matrix"))


def save_head(path: Path, head: Head) -> HeadDescription:
    """Write a head, with its fingerprint, atomically; return what it says of itself.

    Raises:
        CheckpointError: the file cannot be written.
    """
    values = asdict(head.description) | {"fingerprint": ""}
    digest = hashlib.sha256(json.dumps([FORMAT, values], sort_keys=True).encode())
    tensors = {"mean": np.ascontiguousarray(head.mean), "matrix": np.ascontiguousarray(head.matrix)}
    for array in tensors.values():
        digest.update(array.data)
    values["fingerprint"] = digest.hexdigest()[:32]
    try:
        with written_whole(path) as partial:
            save_file(tensors, partial, {_KEY: json.dumps({"format": FORMAT, **values})})
            let_others_read(partial)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{path} cannot be written: {error}") from error
    return HeadDescription(**values)


def _describe(path: Path) -> HeadDescription:
    try:
        with safe_open(path, framework="numpy") as file:
            values = json.loads((file.metadata() or {})[_KEY])
        if values.pop("format") != FORMAT:
            raise CheckpointError(f"{path} is a head of another version: fit it anew with 'cbmir model project'")
        return HeadDescription(**values)
    except FileNotFoundError as error:
        raise CheckpointError(f"{path} does not exist: make it with 'cbmir model project'") from error
    except (OSError, SafetensorError, KeyError, ValueError, TypeError) as error:
        raise CheckpointError(f"{path} is no head, or is damaged: fit it anew with 'cbmir model project'") from error
