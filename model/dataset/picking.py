"""From a plan to single instances: the slices of each series that lie where the plan says."""

from __future__ import annotations

from dataclasses import dataclass
from io import BytesIO
from typing import Any, Final

import numpy as np
import pydicom

from model.dataset.bucket import Buckets
from model.dataset.stored_objects import StoredObject
from model.errors import DatasetError

HEADERS: Final = 32
"""Headers that are read of a series to find where its slices lie; four times as many as slices, if that is more."""

_STARTS: Final = (2**14, 2**18)
"""Bytes in which a header is looked for; the second only where the first do not hold all of it."""

_TAGS = [
    "SOPInstanceUID",
    "ImageType",
    "InstanceNumber",
    "ImagePositionPatient",
    "ImageOrientationPatient",
    "Rows",
    "NumberOfFrames",
]


_GEOMETRY = {"ImagePositionPatient": 3, "ImageOrientationPatient": 6}
"""How many numbers each has."""


@dataclass(frozen=True, slots=True)
class Instance:
    """One picture of a series, and where it is stored."""

    uid: str
    stored: StoredObject


def pick_instances(buckets: Buckets, address: str, fractions: list[float]) -> list[Instance]:
    """The instances at these fractions of a series, each once.

    Of a long series only some headers are read, evenly chosen from its objects, whose names are random: the slices then
    lie nearly where the plan says. They are ordered along the normal of their plane (DICOM PS3.3 C.7.6.2.1.1), or by
    Instance Number where they lie in several planes or in none. Instances without pixels, with several frames, and
    localizers (Image Type) are left out.

    Args:
        buckets: where the series lies.
        address: of the series' folder.
        fractions: from 0 for the first slice to 1 for the last.

    Raises:
        DatasetError: the bucket refuses, the series is empty, or holds too few pictures.
    """
    objects = buckets.list(address)
    if not objects:
        raise DatasetError(f"{address} holds nothing: is the archive's index of another version?")
    chosen = np.unique(np.linspace(0, len(objects) - 1, _headers(len(fractions))).astype(int)).tolist()
    headers = [(objects[number], _header(buckets, objects[number])) for number in chosen]
    pictures = _ordered([(stored, header) for stored, header in headers if header is not None and _is_slice(header)])
    if len(pictures) < len(fractions):
        raise DatasetError(f"{address} has {len(pictures)} pictures of the {len(fractions)} that the plan asks for")
    return [pictures[place] for place in _places(fractions, len(pictures))]


def header_bytes(instances: int, slices: int) -> int:
    """Bytes that choosing some of a series' instances reads, unless its headers are of unusual length."""
    return min(instances, _headers(slices)) * _STARTS[0]


def _headers(slices: int) -> int:
    return max(HEADERS, 4 * slices)


def _places(fractions: list[float], length: int) -> list[int]:
    """Positions at the fractions, moved to the next free one where two fall together."""
    taken: list[int] = []
    for number, fraction in enumerate(sorted(fractions)):
        wanted = min(int(fraction * length), length - (len(fractions) - number))
        taken.append(max(wanted, taken[-1] + 1) if taken else wanted)
    return taken


def _header(buckets: Buckets, stored: StoredObject) -> pydicom.Dataset | None:
    """The header; ``None`` of what is no DICOM or has a header that does not end."""
    for size in _STARTS:
        start = buckets.start(stored.address, min(size, stored.size))
        if (header := _parse(start)) is not None or size >= stored.size:
            return header
    return None


def _parse(start: bytes) -> pydicom.Dataset | None:
    """The header's values, converted; ``None`` of what has none of a picture, or damaged ones."""
    try:
        header = pydicom.dcmread(BytesIO(start), stop_before_pixels=True, specific_tags=_TAGS)
        header.decode()
        int(header.get("InstanceNumber") or 0), int(header.get("NumberOfFrames") or 1)
        lengths = {name: len(np.array(header.get(name) or [], float)) for name in _GEOMETRY}
    except Exception:  # what is cut off, or no DICOM, fails in many ways; such an object is no picture of the series
        return None
    sound = all(lengths[name] in {0, length} for name, length in _GEOMETRY.items())
    return header if sound and "Rows" in header and "SOPInstanceUID" in header else None


def _is_slice(header: pydicom.Dataset) -> bool:
    kinds = header.get("ImageType") or ()
    return "LOCALIZER" not in kinds and int(header.get("NumberOfFrames") or 1) == 1


def _ordered(headers: list[tuple[StoredObject, pydicom.Dataset]]) -> list[Instance]:
    planes = {tuple(np.round(header.get("ImageOrientationPatient") or [], 3)) for _, header in headers}
    positions = [header.get("ImagePositionPatient") for _, header in headers]
    by_position = len(planes) == 1 and all(map(bool, planes)) and all(positions)

    def place(one: tuple[StoredObject, pydicom.Dataset]) -> tuple[float, int, str]:
        stored, header = one
        along = 0.0
        if by_position:
            plane: Any = np.array(header.ImageOrientationPatient, float)
            along = float(np.cross(plane[:3], plane[3:]) @ np.array(header.ImagePositionPatient, float))
        return along, int(header.get("InstanceNumber") or 0), stored.address

    return [Instance(str(header.SOPInstanceUID), stored) for stored, header in sorted(headers, key=place)]
