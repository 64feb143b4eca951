"""What the index stores: point ids, payload, vectors, and the description that ties it to one model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple, Self, TypeAlias
from uuid import UUID, uuid5

import numpy as np

from model.images.frames import Frame, Header

if TYPE_CHECKING:
    from numpy.typing import NDArray

SCHEMA_VERSION: Final = 3
"""Version of point ids, payload and vectors together; an index of another version is refused."""

_NAMESPACE: Final = UUID("6f1d1c0e-5c0b-5d2a-9a53-0c1b9a5f4e11")

KEYWORDS: Final = (
    "organ",
    "best_guess",
    "label",
    "modality",
    "body_part_examined",
    "sop_instance_uid",
    "series_instance_uid",
    "study_instance_uid",
    "patient_group",
    "view",
    "localizer",
)
"""Payload fields with a keyword index, by which people filter."""

Quantization = Literal["none", "int8", "turbo4"]

PathPrivacy = Literal["plain", "hash"]
"""How the paths below an index's roots are stored: as they are, or every name in them as a keyed hash."""

Vector: TypeAlias = "NDArray[np.floating[Any]]"


def point_id(identity: str) -> UUID:
    """UUIDv5 over a frame's identity: the same picture is the same point, in every run and on every machine."""
    return uuid5(_NAMESPACE, identity)


class Stamp(NamedTuple):
    """What a file was when it was read: its size, its time of change in nanoseconds, and the number of its frames."""

    size: int
    mtime_ns: int
    frames: int

    def __str__(self) -> str:
        return f"{self.size} {self.mtime_ns} {self.frames}"

    @classmethod
    def parse(cls, text: str) -> Self | None:
        """The stamp that ``str`` wrote; ``None`` of an empty text."""
        return cls(*map(int, text.split())) if text else None


@dataclass(frozen=True, slots=True, order=True)
class Location:
    """Where a file lies: the number of an indexed root (see :class:`Description`) and the path below it.

    Its stamp, by which a lost ledger is made again, is no part of what makes two locations equal.
    """

    root: int
    path: str
    stamp: Stamp | None = field(default=None, compare=False)

    def __str__(self) -> str:
        return f"{self.root}:{self.path}"

    @classmethod
    def parse(cls, text: str) -> Self:
        """The location that ``str`` wrote."""
        root, _, path = text.partition(":")
        return cls(int(root), path)


@dataclass(frozen=True, slots=True)
class Payload:
    """What is stored with a point's vectors. No name, id or birth date of a patient is among it.

    Attributes:
        organ: the class that the network predicts, or :data:`model.network.calibration.UNKNOWN`, also where the
            header's modality contradicts it (:mod:`model.modalities`); ``None`` of a model without classes.
        best_guess: the likeliest class, in either case.
        organ_probability: its probability, 0…1.
        label: the true class, where the archive's owner gave one.
        header: modality, body part, UIDs and patient group, where the file has them.
        frame: 1-based frame or page.
        locations: where the picture lies, least first: more than one if the archive holds copies.
    """

    organ: str | None
    best_guess: str | None
    organ_probability: float | None
    label: str | None
    header: Header
    frame: int
    locations: tuple[Location, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as Qdrant stores them; absent ones are left out."""
        first, *copies = self.locations
        stamps = [str(location.stamp or "") for location in self.locations]
        values: dict[str, Any] = {
            "organ": self.organ,
            "best_guess": self.best_guess,
            "organ_probability": None if self.organ_probability is None else round(self.organ_probability, 6),
            "label": self.label,
            **{field.name: getattr(self.header, field.name) for field in fields(Header)},
            "frame": self.frame,
            "root": first.root,
            "path": first.path,
            "copies": [str(copy) for copy in copies] or None,
            "stamps": stamps if any(stamps) else None,
        }
        return {key: value for key, value in values.items() if value is not None}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """The payload that :meth:`to_dict` gave."""
        places = [Location(values["root"], values["path"]), *map(Location.parse, values.get("copies", ()))]
        stamps = [Stamp.parse(stamp) for stamp in values.get("stamps", ())] or [None] * len(places)
        return cls(
            organ=values.get("organ"),
            best_guess=values.get("best_guess"),
            organ_probability=values.get("organ_probability"),
            label=values.get("label"),
            header=Header(**{field.name: values.get(field.name) for field in fields(Header)}),
            frame=values["frame"],
            locations=tuple(replace(place, stamp=stamp) for place, stamp in zip(places, stamps, strict=True)),
        )


@dataclass(frozen=True, slots=True)
class Point:
    """One picture in the index; ``vectors`` holds one ``(dimension,)`` feature a stored layer."""

    id: UUID
    payload: Payload
    vectors: Mapping[str, Vector]


@dataclass(frozen=True, slots=True)
class PointBatch:
    """Pictures on their way into the index, as columns.

    Attributes:
        ids: of the points.
        payloads: as :meth:`Payload.to_dict` gives them.
        vectors: one ``(n, dimension)`` array a stored layer.
    """

    ids: Sequence[UUID]
    payloads: Sequence[Mapping[str, Any]]
    vectors: Mapping[str, Vector]

    def __len__(self) -> int:
        return len(self.ids)

    @classmethod
    def of(cls, points: Sequence[Point]) -> Self:
        """Points, at least one, as columns."""
        vectors = {layer: np.stack([point.vectors[layer] for point in points]) for layer in points[0].vectors}
        return cls([point.id for point in points], [point.payload.to_dict() for point in points], vectors)


@dataclass(frozen=True, slots=True)
class Description:
    """What an index says of itself, fixed when it is made, but for ``roots``, ``model_path`` and ``viewer_url``.

    Attributes:
        model_fingerprint: of the model that made every feature and class prediction in it.
        model_path: where that model lay, so that a search need not name it.
        classes: organ classes of the model; none where it only makes features.
        layers: names of the stored vectors.
        dimensions: by layer, the length of its vectors.
        quantization: of the copy that is searched first and rescored from the originals.
        path_privacy: see :data:`PathPrivacy`.
        patient_groups: whether a keyed hash of the Patient ID is stored.
        roots: folders that were indexed; payloads refer to them by number.
        heads: fingerprints of the heads among the layers, by name (:mod:`model.network.heads`).
        dot_layers: layers whose vectors are compared by their dot products, and not by Euclidean distance.
        probe: fingerprint of the probe that names the classes (:mod:`model.network.probe`); empty where the model does.
        viewer_url: address of a viewer to which hits link (:mod:`index.answers.viewer`); empty for none.
        schema_version: see :data:`SCHEMA_VERSION`.
    """

    model_fingerprint: str
    model_path: str
    classes: tuple[str, ...]
    layers: tuple[str, ...]
    dimensions: Mapping[str, int]
    quantization: Quantization = "turbo4"
    path_privacy: PathPrivacy = "plain"
    patient_groups: bool = False
    roots: tuple[str, ...] = ()
    heads: Mapping[str, str] = field(default_factory=dict)
    dot_layers: tuple[str, ...] = ()
    probe: str = ""
    viewer_url: str = ""
    schema_version: int = SCHEMA_VERSION

    @property
    def makers(self) -> tuple[object, ...]:
        """What features and predictions come from: where it changes, a query of before means nothing."""
        return self.model_fingerprint, self.heads, self.probe

    @property
    def default_layers(self) -> tuple[str, ...]:
        """What a search compares where nothing is asked for: the first layer stored, of joined models that of each."""
        firsts: dict[str, str] = {}
        for layer in self.layers:
            firsts.setdefault(layer.rpartition(".")[0], layer)
        return tuple(firsts.values())


def frame_point_id(frame: Frame) -> UUID:
    """The id under which a frame is stored."""
    return point_id(frame.identity)
