"""Heads: linear maps behind a layer, fitted on labelled images, whose few values retrieve better than the layer's own.

A head is one more layer. It lies beside its model in a file of its own (:mod:`model.network.beside`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from model.network.beside import damaged, describe_beside, path_beside, read_tensors, refuse_another_model, save_beside
from model.network.joined import by_member, members_of
from model.network.metadata import read_metadata

DEFAULT_NAME: Final = "projected"

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
        projected = np.asarray((features - self.mean) @ self.matrix, np.float32)
        return of_length_one(projected) if self.description.normalised else projected


def of_length_one(features: NDArray[np.float32]) -> NDArray[np.float32]:
    """``(images, values)``, each divided by its length, so that Euclidean distances rank as cosines do; zeros stay."""
    lengths = np.maximum(np.linalg.norm(features, axis=1, keepdims=True), np.finfo(np.float32).tiny)
    return np.asarray(features / lengths, np.float32)


def head_path(model: Path, name: str) -> Path:
    """Where a model's head of that name lies, as ``mine.projected.head.safetensors`` beside ``mine.safetensors``."""
    return path_beside(model, "head", name)


def head_file(model: Path, layer: str) -> Path:
    """Where the head that gives a layer lies; of a joined model it may be that of one of its models."""
    member, _, own = layer.partition(".")
    members = members_of(model)
    return head_path(members[member], own) if member in members else head_path(model, layer)


def describe_heads(model: Path) -> dict[str, HeadDescription]:
    """The heads beside a model, by name.

    Raises:
        CheckpointError: one of them is damaged, or was fitted on another model, as after a new training in its place.
    """
    parts = {name: describe_heads(path) for name, path in members_of(model).items()}
    of_members = {f"{name}.{head}": described for name, heads in parts.items() for head, described in heads.items()}
    return own_heads(model) | of_members


def own_heads(model: Path) -> dict[str, HeadDescription]:
    """The heads beside a model, but of a joined model none of its models' own.

    Raises:
        CheckpointError: as :func:`describe_heads`.
    """
    start, _, end = head_path(model, "*").name.rpartition("*")
    found = (path.name for path in head_path(model, "*").parent.glob("*.safetensors"))
    names = sorted(name[len(start) : -len(end)] for name in found if name.startswith(start) and name.endswith(end))
    heads = {name: _describe(head_path(model, name)) for name in names if NAME.fullmatch(name)}
    if heads:
        fingerprint = read_metadata(model).fingerprint
        for name, head in heads.items():
            refuse_another_model(head_path(model, name), "head", head.model, model, fingerprint)
    return heads


def model_layers(model: Path) -> dict[str, int]:
    """How many values each layer of a model gives, by name, its heads among them; nothing of its weights is read.

    Raises:
        CheckpointError: the model or one of its heads is damaged.
    """
    return read_metadata(model).layers | {name: head.values for name, head in describe_heads(model).items()}


def default_layers(model: Path) -> tuple[str, ...]:
    """What a new index stores where nothing is asked for: a head's values, if there is one, else the first layer's.

    Of a joined model without a head of its own those of each of its models.
    """
    members, heads = members_of(model), own_heads(model)
    if members and not heads:
        return by_member({name: default_layers(path) for name, path in members.items()})
    return (next(iter((*heads, *read_metadata(model).layers))),)


def load_head(model: Path, name: str) -> Head:
    """A model's head of that name.

    Raises:
        CheckpointError: it is absent or damaged.
    """
    path = head_path(model, name)
    return Head(_describe(path), *read_tensors(path, "head", ("mean", "matrix")))


def save_head(path: Path, head: Head) -> HeadDescription:
    """Write a head, with its fingerprint, atomically; return what it says of itself.

    Raises:
        CheckpointError: the file cannot be written.
    """
    tensors = {"mean": head.mean, "matrix": head.matrix}
    return replace(head.description, fingerprint=save_beside(path, "head", head.description, tensors))


def _describe(path: Path) -> HeadDescription:
    values = describe_beside(path, "head")
    try:
        return HeadDescription(**values)
    except TypeError as error:
        raise damaged(path, "head") from error
