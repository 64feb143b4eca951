"""What a checkpoint says of its weights, read without them: torch is not imported for it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from model.errors import CheckpointError
from model.network import joined
from model.network.encoder import EncoderDescription, read_encoder
from model.network.joined import by_member, members_of
from model.network.layers import FEATURES, layer_widths
from model.network.preparation import PAPER, AnyPreparation, JoinedPreparation, Preparation
from model.network.preprocessing import PREPROCESSING

FORMAT = 1
"""Version of the checkpoint's layout; another one is refused."""

KEY = "cbmir"
"""Where the metadata stands, as JSON, among a safetensors file's own."""


@dataclass(frozen=True, slots=True)
class Calibration:
    """What is done with the outputs of a network.

    Attributes:
        temperature: by which they are divided before the softmax (Guo et al. 2017, section 4.2).
        threshold: cosine similarity to the class's mean feature below which an image is unknown.
        images: how many images they were chosen on.
        probability: of the likeliest class, below which an image is unknown, too.
    """

    temperature: float
    threshold: float
    images: int
    probability: float = 0.0


@dataclass(frozen=True, slots=True)
class Metadata:
    """What a checkpoint says of its weights.

    Attributes:
        classes: class names, in the order of the network's outputs.
        fingerprint: 32 hexadecimal digits over weights, classes, preprocessing and calibration: equal exactly for
            models that make equal features and predictions. An index refuses any other.
        preprocessing: how images are prepared for this network.
        recipe: the training recipe's values.
        data: summary of the data: images by split, and how many files were left out.
        measures: classification measures of the test part; ``None`` if training was stopped before.
        epoch: the epoch, from 1, whose weights these are.
        seed: the seed of the split and of the training.
        rank: of the factors of FCL1-3 in a compressed checkpoint (:mod:`model.network.compression`), else ``None``.
        ranges: largest activation behind each layer (:mod:`model.network.ranges`), for computing in 8-bit integers.
        calibration: how the outputs become probabilities, and what is unknown; ``None`` if it was never calibrated.
        width: of FCL1-3, the length of every feature.
        encoder: what another program's network says of itself, where this is one; it has no classes.
        members: of a joined model what each says of itself, by name; its classes are those of the first that has any.
    """

    classes: tuple[str, ...]
    fingerprint: str
    preprocessing: str = PREPROCESSING
    recipe: Mapping[str, Any] = field(default_factory=dict)
    data: Mapping[str, Any] = field(default_factory=dict)
    measures: Mapping[str, Any] | None = None
    epoch: int = 0
    seed: int = 0
    rank: int | None = None
    ranges: Mapping[str, float] = field(default_factory=dict)
    calibration: Calibration | None = None
    width: int = FEATURES
    encoder: EncoderDescription | None = None
    members: Mapping[str, Metadata] = field(default_factory=dict)

    @property
    def layers(self) -> dict[str, int]:
        """How many values each layer gives, by name, its heads not among them."""
        if self.members:
            parts = self.members.items()
            own = {f"{name}.{layer}": values for name, one in parts for layer, values in one.layers.items()}
            return own | {joined.LAYER: sum(next(iter(one.layers.values())) for one in self.members.values())}
        return {self.encoder.layer: self.encoder.values} if self.encoder else layer_widths(self.width)

    @property
    def dot_layers(self) -> tuple[str, ...]:
        """Layers whose features are compared by their dot products, and not by Euclidean distance."""
        if self.members:
            return by_member({name: one.dot_layers for name, one in self.members.items()})
        return (self.encoder.layer,) if self.encoder and self.encoder.dot else ()

    @property
    def preparation(self) -> AnyPreparation:
        """How frames become the network's input."""
        return JoinedPreparation(self.preparations) if self.members else self.preparations[0]

    @property
    def preparations(self) -> tuple[Preparation, ...]:
        """How frames become the input of each network: of every joined model in order, or of the only one."""
        if self.members:
            return tuple(part for one in self.members.values() for part in one.preparations)
        return (self.encoder.preparation if self.encoder else PAPER,)


def read_metadata(path: str | Path) -> Metadata:
    """Read a checkpoint's metadata, and nothing else of it: no weights, no torch.

    Raises:
        CheckpointError: the file is missing, damaged, of another program or of another version.
    """
    if members := members_of(Path(path)):
        return _joined({name: read_metadata(member) for name, member in members.items()})
    if Path(path).is_dir():
        encoder = read_encoder(Path(path))
        return Metadata((), encoder.fingerprint, preprocessing=str(encoder.preparation), encoder=encoder)
    try:
        with safe_open(path, framework="numpy") as file:
            raw = (file.metadata() or {}).get(KEY)
    except FileNotFoundError as error:
        raise CheckpointError(f"{path} does not exist: give a model written by 'cbmir train'") from error
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{path} is no model file, or is damaged: {error}") from error
    if raw is None:
        raise CheckpointError(f"{path} was not written by 'cbmir train': it says nothing of classes or preprocessing")
    try:
        metadata = _from_json(json.loads(raw), path)
    except (ValueError, KeyError, TypeError) as error:
        what = f"{error} is missing" if isinstance(error, KeyError) else str(error)
        raise CheckpointError(f"{path} is damaged, or of another program ({what}): train it anew") from error
    if metadata.preprocessing != PREPROCESSING:
        raise CheckpointError(f"{path} expects other preprocessing ({metadata.preprocessing}): train it anew")
    return metadata


def _joined(members: Mapping[str, Metadata]) -> Metadata:
    names = [(name, one.fingerprint) for name, one in members.items()]
    fingerprint = hashlib.sha256(json.dumps([FORMAT, names]).encode()).hexdigest()[:32]
    classes = next((one.classes for one in members.values() if one.classes), ())
    return Metadata(classes, fingerprint, preprocessing="joined", members=members)


def _from_json(values: Any, path: str | Path) -> Metadata:
    """The metadata that was written as JSON.

    Raises:
        KeyError, TypeError: a field is missing, of another kind, or unknown.
        CheckpointError: it has another version.
    """
    if not isinstance(values, dict):
        raise TypeError("it is no JSON object")
    version = values.pop("format", None)
    if version != FORMAT:
        raise CheckpointError(f"{path} has format {version}, this program reads format {FORMAT}: train it anew")
    classes, _ = values["classes"], values["fingerprint"]
    if not (isinstance(classes, list) and classes and all(isinstance(name, str) for name in classes)):
        raise TypeError("classes is no list of names")
    for name, kind in (
        ("fingerprint", str),
        ("preprocessing", str),
        ("recipe", dict),
        ("data", dict),
        ("epoch", int),
        ("width", int),
    ):
        if not isinstance(values.get(name, kind()), kind):
            raise TypeError(f"{name} is none of a checkpoint")
    known = {field.name for field in fields(Metadata)} - {"encoder", "members"}
    if unknown := sorted(set(values) - known):
        raise TypeError(f"there is no field {unknown[0]!r}")
    calibration = values.pop("calibration", None)
    return Metadata(
        **{**values, "classes": tuple(classes)}, calibration=Calibration(**calibration) if calibration else None
    )
