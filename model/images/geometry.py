"""Where a picture lies in the body: its view, and its place in a stack of slices.

From the Image Plane module of a slice (PS3.3 C.7.6.2), the functional groups of an enhanced object (C.7.6.16.2), and
the View Position and Patient Orientation of a radiograph (C.8.7.1, C.7.6.1.1.1).
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Final, Literal

from pydicom.dataset import Dataset

from model.images.elements import numbers, text, texts

View = Literal["axial", "coronal", "sagittal", "oblique", "mosaic", "frontal", "lateral", "cc", "mlo", "projection"]
"""Planes of slices; mosaics of many; directions of projections, and those whose direction is not said."""

FARTHEST: Final = 1e6
"""Millimetres from the origin within which a place is believed."""

STRAIGHT: Final = 0.8
"""Least cosine between a slice's normal and an axis of the body for the slice not to be oblique: 37 degrees."""

PLANES: Final[tuple[View, ...]] = ("sagittal", "coronal", "axial")
"""By the axis along which their normal points: to the left, to the back, to the head."""

_SCOUTS: Final[dict[str, View]] = {"coronal": "frontal", "sagittal": "lateral"}

_PROJECTIONS: Final = frozenset({"CR", "DX", "MG", "RG", "XR", "IO", "PX", "XA", "RF"})

_DIRECTIONS: Final[dict[str, View]] = {
    **dict.fromkeys(("AP", "PA"), "frontal"),
    **dict.fromkeys(("LL", "RL", "LAT", "LATERAL", "LLO", "ML", "LM"), "lateral"),
    "CC": "cc",
    "MLO": "mlo",
}


@dataclass(frozen=True, slots=True)
class Geometry:
    """Where a frame lies.

    Attributes:
        view: ``None`` where nothing tells it.
        slice_mm: place along the normal of the slice, in millimetres; ``None`` of what is no slice. The normal points
            to the left, the back or the head, whichever is nearest, in all slices of the body alike.
        stack: equal for slices of one stack among those of a series, which may hold several: of other orientations,
            echoes, points in time, or a localizer.
        localizer: whether the frame is a scout, by which the others were planned.
    """

    view: View | None = None
    slice_mm: float | None = None
    stack: str | None = None
    localizer: bool = False


NOWHERE: Final = Geometry()


def frame_geometry(ds: Dataset, number: int) -> Geometry:
    """Where a frame of an object lies, as far as its header says.

    Args:
        ds: the object's data elements.
        number: 1-based frame.
    """
    groups = _functional_groups(ds, number)
    kind = texts(ds, "ImageType")
    localizer = "LOCALIZER" in kind or "SCOUT" in kind
    if "MOSAIC" in kind:
        return Geometry("mosaic", None, None, localizer)
    orientation = numbers(_with(groups, "PlaneOrientationSequence", ds), "ImageOrientationPatient")
    if len(orientation) != 6:
        return Geometry(_projection(ds), None, None, localizer)
    normal = _normal(orientation)
    if normal is None:
        return Geometry(None, None, None, localizer)
    axis = max(range(3), key=lambda i: abs(normal[i]))
    view: View = PLANES[axis] if abs(normal[axis]) >= STRAIGHT else "oblique"
    if localizer and text(ds, "Modality") == "CT":  # a scout of CT is a radiograph, in the plane of its detector
        return Geometry(_SCOUTS.get(view, "projection"), None, None, localizer)
    position = numbers(_with(groups, "PlanePositionSequence", ds), "ImagePositionPatient")
    place = None
    if len(position) == 3:
        along = math.copysign(1.0, normal[axis]) * sum(n * p for n, p in zip(normal, position, strict=True))
        place = round(along, 3) if abs(along) < FARTHEST else None
    return Geometry(view, place, _stack(ds, groups, orientation, localizer=localizer), localizer)


def _functional_groups(ds: Dataset, number: int) -> list[Dataset]:
    """The items with a frame's own facts, and with those that all frames share."""
    groups = []
    with suppress(AttributeError, IndexError, TypeError):  # damaged sequences are no sequences
        groups.append(ds.PerFrameFunctionalGroupsSequence[number - 1])
    with suppress(AttributeError, IndexError, TypeError):
        groups.append(ds.SharedFunctionalGroupsSequence[0])
    return groups


def _with(groups: Sequence[Dataset], sequence: str, otherwise: Dataset) -> Dataset:
    """The first group's item of that sequence; the object itself where it has none, as classic ones."""
    for group in groups:
        with suppress(AttributeError, IndexError, TypeError):
            item: Dataset = getattr(group, sequence)[0]
            return item
    return otherwise


def _normal(orientation: Sequence[float]) -> tuple[float, float, float] | None:
    """The unit vector across a slice; ``None`` where its row and column do not span one."""
    (a, b, c), (d, e, f) = orientation[:3], orientation[3:]
    across = (b * f - c * e, c * d - a * f, a * e - b * d)
    length = math.hypot(*across)
    if not 0.5 <= length <= 2.0:  # of two unit vectors at a right angle it is 1
        return None
    x, y, z = (value / length for value in across)
    return x, y, z


def _projection(ds: Dataset) -> View | None:
    if view := _DIRECTIONS.get(text(ds, "ViewPosition")):
        return view
    if text(ds, "Modality") not in _PROJECTIONS:
        return None
    row, column = (*texts(ds, "PatientOrientation"), "", "")[:2]
    if row[:1] in {"L", "R"} and column[:1] in {"F", "H"}:
        return "frontal"
    if row[:1] in {"A", "P"} and column[:1] in {"F", "H"}:
        return "lateral"
    return "projection"


def _stack(ds: Dataset, groups: Sequence[Dataset], orientation: Sequence[float], *, localizer: bool) -> str:
    """Equal for slices that lie one above the other."""
    frame = _with(groups, "FrameContentSequence", ds)
    facts = (
        [round(value, 2) + 0.0 for value in orientation],
        localizer,
        numbers(ds, "Rows"),
        numbers(ds, "Columns"),
        numbers(_with(groups, "MREchoSequence", ds), "EffectiveEchoTime") or numbers(ds, "EchoTime"),
        numbers(_with(groups, "MRDiffusionSequence", ds), "DiffusionBValue"),
        text(frame, "StackID"),
        numbers(frame, "TemporalPositionIndex") or numbers(frame, "TemporalPositionIdentifier"),
    )
    return hashlib.sha256(repr(facts).encode()).hexdigest()[:8]
