"""Queries: an image file, or a stored point, with what the network says of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from string import hexdigits
from typing import TYPE_CHECKING
from uuid import UUID

import numpy as np

from index.engines.engine import Searchable, Where
from index.schema import Payload, Vector, frame_point_id
from model.errors import CbmirError, ImageError, Reason, SettingError
from model.images.frames import Frame, Header
from model.images.reading import ReadOptions, read_frames
from model.modalities import contradicts
from model.network.calibration import UNKNOWN

if TYPE_CHECKING:
    from model.network.embedder import Embedder

SHOWN_DIGITS = 8
"""Digits of a point's id in tables: two of a million pictures share them with a probability of 0.02 % each."""

_POINT_DIGITS = range(6, 33)


@dataclass(frozen=True, slots=True)
class Query:
    """One picture to which neighbours are sought.

    Attributes:
        name: what to call it: the path of a file, or the UID of a stored picture.
        frame: its 1-based frame, ``of`` how many (``None`` if unknown).
        id: the id under which the picture is, or would be, stored.
        header: modality and UIDs.
        organ: the predicted class, or :data:`model.network.calibration.UNKNOWN`, also where the header's modality
            contradicts it; ``None`` of a model without classes.
        best_guess: the likeliest class in either case, with its ``organ_probability``.
        label: the true class, known only of stored pictures that have one.
        features: ``(dimension,)`` by layer.
    """

    name: str
    frame: int
    of: int | None
    id: UUID
    header: Header
    organ: str | None
    best_guess: str | None
    organ_probability: float | None
    label: str | None
    features: dict[str, Vector]


def query_from_image(
    path: str | Path,
    embedder: Embedder,
    *,
    layers: Sequence[str] = (),
    frame: int = 1,
    patient_key: bytes | None = None,
) -> Query:
    """Read and embed one frame of an image file; with the index's key it knows its patient group.

    Without ``layers`` it has what a new index of the model stores.

    Raises:
        ImageError: the file cannot be read as an image, or its features are not finite.
        SettingError: it has no such frame.
    """
    chosen = _frame(path, frame, ReadOptions(patient_key))
    return queries_from_frames([(str(path), chosen)], embedder, layers=layers)[0]


def queries_from_frames(
    frames: Sequence[tuple[str, Frame]], embedder: Embedder, *, layers: Sequence[str] = ()
) -> list[Query]:
    """Embed frames, each with the name of its file, at least one and together.

    Raises:
        ImageError: features are not finite.
    """
    layers = layers or embedder.default_layers
    embeddings = embedder.embed(np.stack([embedder.preparation(frame) for _, frame in frames]), layers)
    queries = []
    for row, (name, frame) in enumerate(frames):
        features = {layer: values[row] for layer, values in embeddings.features.items()}
        for layer in layers:
            if not np.isfinite(features[layer]).all():
                raise ImageError(name, Reason.NON_FINITE, f"the {layer} features hold NaN or infinity: check the model")
        guess = probability = None
        known = bool(embeddings.known[row])
        if classes := embedder.classes:
            best = int(embeddings.probabilities[row].argmax())
            guess, probability = classes[best], float(embeddings.probabilities[row, best])
            known = known and not contradicts(guess, frame.header.modality)
        queries.append(
            Query(
                name=name,
                frame=frame.number,
                of=frame.of,
                id=frame_point_id(frame),
                header=frame.header,
                organ=UNKNOWN if guess and not known else guess,
                best_guess=guess,
                organ_probability=probability,
                label=None,
                features=features,
            )
        )
    return queries


def query_from_stored(index: Searchable, uid: str, *, layers: Sequence[str] = (), frame: int | None = None) -> Query:
    """Take a stored picture as the query: by point id, SOP Instance UID, or Series Instance UID (its middle picture).

    Of a point id the first digits will do.

    Raises:
        SettingError: the index holds no such picture.
    """
    point, payload = find_stored(index, uid, frame)
    return query_from_point(index, uid, point, payload, layers or index.description.default_layers)


def query_from_point(index: Searchable, name: str, point: UUID, payload: Payload, layers: Sequence[str]) -> Query:
    """A stored point as a query, under a name."""
    return Query(
        name=name,
        frame=payload.frame,
        of=None,
        id=point,
        header=payload.header,
        organ=payload.organ,
        best_guess=payload.best_guess,
        organ_probability=payload.organ_probability,
        label=payload.label,
        features={layer: index.vector(point, layer) for layer in layers},
    )


def _frame(address: str | Path, number: int, options: ReadOptions) -> Frame:
    frame = next(read_frames(address, number, options), None)
    if frame is None:
        frames = next(read_frames(address, only=1)).of
        raise SettingError(f"{address} has {frames} frames: there is no frame {number}")
    return frame


def find_stored(index: Searchable, uid: str, frame: int | None = None) -> tuple[UUID, Payload]:
    """A stored picture, as :func:`query_from_stored` takes it.

    Raises:
        SettingError: the index holds none.
    """
    digits = uid.replace("-", "").lower()
    if len(digits) in _POINT_DIGITS and set(digits) <= set(hexdigits):
        found = _beginning_with(index, digits)
        if len(found) > 1:
            raise SettingError(f"more than one picture has an id that begins with {uid}: give more of its digits")
        if found:
            return found[0]
    for keyword in ("sop_instance_uid", "series_instance_uid"):
        pictures = sorted(
            (pair for pair in index.scroll(Where(must={keyword: [uid]})) if frame in (None, pair[1].frame)),
            key=lambda pair: (pair[1].locations[0], pair[1].frame),
        )
        if pictures:
            return pictures[len(pictures) // 2]
    raise SettingError(
        f"the index holds no picture {uid}: give a point id, as a search prints it, a SOP or a Series Instance UID"
    )


def _beginning_with(index: Searchable, digits: str) -> list[tuple[UUID, Payload]]:
    """The first two pictures, at most, whose ids begin with these hexadecimal digits."""
    first = UUID(digits.ljust(32, "0"))
    return [pair for pair in islice(index.scroll(start=first), 2) if pair[0].hex.startswith(digits)]


QUERY_ERRORS: tuple[type[CbmirError], ...] = (ImageError, SettingError)
"""Errors that concern one query and leave the others of the same call alone."""
