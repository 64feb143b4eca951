"""Probes: linear classifiers behind a layer, fitted on labelled images, which name organs where the model names none.

A model has one at most. It lies beside it in a file of its own (:mod:`model.network.beside`), and stands in for the
model's own output layer, if it has one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model.errors import CheckpointError
from model.network.beside import damaged, describe_beside, path_beside, read_tensors, refuse_another_model, save_beside
from model.network.heads import describe_heads
from model.network.joined import members_of
from model.network.metadata import Calibration, read_metadata


@dataclass(frozen=True, slots=True)
class ProbeDescription:
    """What a probe says of itself, read without its weights.

    Attributes:
        layer: whose features it classifies, one of the model's own or a head.
        model: fingerprint of the model that it was fitted on; ``head`` that of the head, where the layer is one.
        classes: their names, in the order of the outputs.
        calibration: how the outputs become probabilities, and what is unknown; ``None`` of too few images for it.
        measures: of the test part that it was not fitted on; ``None`` where there is none.
        data: on what it was fitted: images by part, the hash of their list, and the share of the test part that is
            not unknown.
        fingerprint: 32 hexadecimal digits over all of this and the weights.
    """

    layer: str
    model: str
    classes: tuple[str, ...]
    head: str = ""
    calibration: Calibration | None = None
    measures: Mapping[str, Any] | None = None
    data: Mapping[str, Any] = field(default_factory=dict)
    fingerprint: str = ""


@dataclass(frozen=True, slots=True)
class Probe:
    """A probe with its weights.

    Attributes:
        description: what it is.
        weights: ``(values, classes)`` float32.
        bias: ``(classes,)`` float32.
        centroids: ``(classes, values)`` float16, the classes' mean features.
    """

    description: ProbeDescription
    weights: NDArray[np.float32]
    bias: NDArray[np.float32]
    centroids: NDArray[np.float16]

    def __call__(self, features: NDArray[np.float32]) -> NDArray[np.float32]:
        """Outputs before the softmax, ``(images, classes)``, of ``(images, values)`` features."""
        return np.asarray(features @ self.weights + self.bias, np.float32)


def probe_path(model: Path) -> Path:
    """Where a model's probe lies, as ``mine.probe.safetensors`` beside ``mine.safetensors``."""
    return path_beside(model, "probe")


def probe_file(model: Path) -> Path:
    """Where the probe lies that names the classes; of a joined model without an own one that of one of its models."""
    members = members_of(model)
    return probe_path(members[naming_member(members)]) if members and not has_probe(model) else probe_path(model)


def has_probe(model: Path) -> bool:
    """Whether a probe lies beside a model itself."""
    return probe_path(model).exists()


def describe_probe(model: Path) -> ProbeDescription | None:
    """The probe beside a model, if there is one; of a joined model without one that of the model that names classes.

    Raises:
        CheckpointError: it is damaged, or was fitted on another model or another head than the one that is there.
    """
    members = members_of(model)
    if members and not has_probe(model):
        return describe_probe(members[naming_member(members)])
    path = probe_path(model)
    if not path.exists():
        return None
    probe = _describe(path)
    refuse_another_model(path, "probe", probe.model, model, read_metadata(model).fingerprint)
    if probe.head:
        head = describe_heads(model).get(probe.layer)
        if head is None or head.fingerprint != probe.head:
            raise CheckpointError(
                f"{path} was fitted on another head {probe.layer!r} (fingerprint {probe.head[:8]}) than {model} has: "
                "put that one back, or move the probe away and fit it anew with 'cbmir model probe'"
            )
    return probe


def naming_member(members: Mapping[str, Path], *, probe: bool = True) -> str:
    """The first of joined models that names classes, itself or, if ``probe``, by one; the first of all if none does."""
    for name, path in members.items():
        if (probe and has_probe(path)) or read_metadata(path).classes:
            return name
    return next(iter(members))


def load_probe(model: Path) -> Probe:
    """A model's probe.

    Raises:
        CheckpointError: it is absent or damaged.
    """
    path = probe_path(model)
    return Probe(_describe(path), *read_tensors(path, "probe", ("weights", "bias", "centroids")))


def save_probe(path: Path, probe: Probe) -> ProbeDescription:
    """Write a probe, with its fingerprint, atomically; return what it says of itself.

    Raises:
        CheckpointError: the file cannot be written.
    """
    tensors: dict[str, NDArray[Any]] = {"weights": probe.weights, "bias": probe.bias, "centroids": probe.centroids}
    return replace(probe.description, fingerprint=save_beside(path, "probe", probe.description, tensors))


def _describe(path: Path) -> ProbeDescription:
    values = describe_beside(path, "probe")
    try:
        calibration = values.pop("calibration")
        return ProbeDescription(
            **{**values, "classes": tuple(values["classes"])},
            calibration=Calibration(**calibration) if calibration else None,
        )
    except (KeyError, TypeError) as error:
        raise damaged(path, "probe") from error
