"""What ``encoder.json`` says of another program's network, in the folder that 'cbmir model import' makes of it."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final, Literal

from model.errors import CheckpointError
from model.files import written_whole
from model.network.preparation import Preparation

NAME: Final = "encoder.json"

CARD: Final = "README.md"
"""The encoder's model card, where it has one."""

FORMAT: Final = 1

Kind = Literal["onnx", "timm", "transformers", "efficientnet-lite"]
"""What runs it: ONNX Runtime or OpenVINO; or a package that has its architecture."""

Pooling = Literal["none", "mean", "first"]
"""How an output becomes one vector an image: it is one; the mean over its positions; or its first position (a class
token)."""


@dataclass(frozen=True, slots=True)
class EncoderDescription:
    """What is known of an encoder; it names no classes.

    Attributes:
        kind: see :data:`Kind`.
        weights: file or folder beside ``encoder.json``.
        values: length of a feature.
        preparation: of the frames.
        layer: what its feature is called, in indexes and searches.
        architecture: by its name in timm; empty where the weights say it themselves.
        output: of an ONNX file, by name.
        pooling: see :data:`Pooling`.
        normalised: whether a feature is divided by its length, so that Euclidean distances rank as cosines do.
        dot: whether its features are compared by their dot products, and not by Euclidean distance.
        batch: images that an ONNX file takes at once, where it takes no other number.
        channels_last: whether an ONNX file takes ``(n, size, size, channels)``.
        on_gpus: of an ONNX file of EfficientNet-Lite0, weights beside it by which torch computes the same on GPUs.
        source: where it came from.
        licence: under which it may be used, as whoever imported it says.
        fingerprint: 32 hexadecimal digits over the weights and all of this that changes a feature.
    """

    kind: Kind
    weights: str
    values: int
    preparation: Preparation
    layer: str = "pooled"
    architecture: str = ""
    output: str = ""
    pooling: Pooling = "none"
    normalised: bool = False
    dot: bool = False
    batch: int | None = None
    channels_last: bool = False
    on_gpus: str = ""
    source: str = ""
    licence: str = ""
    fingerprint: str = ""


def read_encoder(folder: Path) -> EncoderDescription:
    """What the encoder in a folder says of itself.

    Raises:
        CheckpointError: there is none, or its description is damaged or of another version.
    """
    path = folder / NAME
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        if values.pop("format") != FORMAT:
            raise CheckpointError(f"{path} is of another version: bring the encoder in anew with 'cbmir model import'")
        preparation = values.pop("preparation")
        lists = {name: tuple(preparation[name]) for name in ("mean", "std")}
        return EncoderDescription(**values, preparation=Preparation(**{**preparation, **lists}))
    except FileNotFoundError as error:
        raise CheckpointError(f"{folder} is a folder without {NAME}: make one with 'cbmir model import'") from error
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(
            f"{path} is damaged, or of another program: bring the encoder in anew with 'cbmir model import'"
        ) from error


def write_encoder(folder: Path, encoder: EncoderDescription) -> EncoderDescription:
    """Write the description beside the weights, with the fingerprint, which is returned in it.

    Raises:
        CheckpointError: it cannot be written.
    """
    named = replace(encoder, fingerprint=_fingerprint(folder, encoder))
    try:
        with written_whole(folder / NAME) as partial:
            partial.write_text(json.dumps({"format": FORMAT, **asdict(named)}, indent=1) + "\n", encoding="utf-8")
    except OSError as error:
        raise CheckpointError(f"{folder / NAME} cannot be written: {error.strerror or error}") from error
    return named


def _fingerprint(folder: Path, encoder: EncoderDescription) -> str:
    """Source and licence change no feature, nor do files that only describe the weights to people, or repeat them."""
    values: dict[str, Any] = asdict(replace(encoder, source="", licence="", fingerprint=""))
    del values["on_gpus"]
    if not encoder.dot:
        del values["dot"]  # of which fingerprints before it was thought of knew nothing
    digest = hashlib.sha256(json.dumps([FORMAT, values], sort_keys=True).encode())
    weights = folder / encoder.weights
    for path in sorted(weights.rglob("*")) if weights.is_dir() else [weights]:
        if path.is_file():
            digest.update(path.name.encode())
            with path.open("rb") as file:
                digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()[:32]
