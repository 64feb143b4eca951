"""Values of optional data elements: what can be understood of them is taken, and the rest is dropped.

Archives hold windows with a decimal comma, a unit, a word, an empty first value; tables and paddings under another VR
than their own (PS3.5 section 6.2). None of that is worth a picture.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from functools import cache
from typing import Any, Final

import numpy as np
from pydicom.datadict import dictionary_description, dictionary_VR
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.tag import BaseTag, Tag

_NUMBER: Final = re.compile(r"\s*([-+]?(?:\d+(?:[.,]\d*)?|[.,]\d+)(?:[eE][-+]?\d+)?)")

_FORMATS: Final = {"US": "u2", "SS": "i2", "UL": "u4", "SL": "i4", "FL": "f4", "FD": "f8", "OF": "f4", "OD": "f8"}

_OPTIONAL: Final = (
    *("WindowCenter", "WindowWidth", "RescaleSlope", "RescaleIntercept"),
    *("PixelPaddingValue", "PixelPaddingRangeLimit", "HighBit"),
)
"""Values that an image is shown without."""

_SHOWN: Final = 40
"""Characters of a value that are repeated to a person."""

_WORDS: Final = frozenset({"OW", "OB", "US or SS", "US or OW", "US or SS or OW", "OB or OW"})
"""VRs of 16-bit words without a sign of their own."""


@cache
def _tag(keyword: str) -> BaseTag:
    """The tag of a keyword; to look it up for some thirty elements took a twentieth of what a file takes to read."""
    return Tag(keyword)


def text(ds: Dataset, keyword: str) -> str:
    """The first value of an element of text, upper case, without the blanks around it; empty if it is absent."""
    element = ds.get_item(_tag(keyword))
    value = element.value if element is not None else None
    if isinstance(value, bytes):
        value = value.decode("ascii", "replace")
    elif value is not None and not isinstance(value, str):
        value = next(iter(value), "") if isinstance(value, Iterable) else value
    return str(value or "").partition("\\")[0].strip(" \0").upper()


def texts(ds: Dataset, keyword: str) -> tuple[str, ...]:
    """All values of an element of text, upper case, without the blanks around them."""
    element = ds.get_item(_tag(keyword))
    value = element.value if element is not None else None
    if isinstance(value, bytes):
        value = value.decode("ascii", "replace")
    values = value.split("\\") if isinstance(value, str) else value if isinstance(value, Iterable) else ()
    return tuple(str(one).strip(" \0").upper() for one in values)


def numbers(ds: Dataset, keyword: str) -> list[float]:
    """The finite numbers among an element's values, in order."""
    found = (_number(value) for value in _values(ds, keyword))
    return [value for value in found if value is not None and math.isfinite(value)]


def number(ds: Dataset, keyword: str) -> float | None:
    """The first finite number among an element's values; ``None`` if there is none."""
    return next(iter(numbers(ds, keyword)), None)


def dropped_values(ds: Dataset) -> list[str]:
    """What of the optional values of a dataset was not taken as it is written, in words."""
    notes = []
    for keyword in _OPTIONAL:
        element = ds.get_item(_tag(keyword))
        if element is None or element.value in (None, b"", ""):
            continue
        written = [str(value).strip(" \0") for value in _values(ds, keyword)]
        taken = numbers(ds, keyword)
        if [_plain(value) for value in written] != taken:
            shown = "\\".join(written)[:_SHOWN]
            kept = ", ".join(f"{value:g}" for value in taken[:2]) or "nothing"
            notes.append(f"{dictionary_description(keyword)} {shown!r}: {kept} taken of it")
    return notes


def _plain(written: str) -> float | None:
    try:
        return float(written)
    except ValueError:
        return None


def words(ds: Dataset, keyword: str) -> np.ndarray[Any, np.dtype[np.uint16]]:
    """An element of 16-bit words, of whatever VR, without a sign, as the file's byte order has them."""
    element = ds.get_item(_tag(keyword))
    value = element.value if element is not None else None
    if value is None:
        return np.zeros(0, np.uint16)
    if isinstance(value, bytes | bytearray):
        order = "<" if _is_little(ds, element) else ">"
        return np.frombuffer(bytes(value[: len(value) // 2 * 2]), f"{order}u2").astype(np.uint16)
    listed = list(value) if isinstance(value, Iterable) and not isinstance(value, str) else [value]
    return np.asarray([int(one) & 0xFFFF for one in listed], np.uint16)


def _values(ds: Dataset, keyword: str) -> list[Any]:
    element = ds.get_item(_tag(keyword))
    value = element.value if element is not None else None
    if value is None:
        return []
    if not isinstance(value, bytes | bytearray):
        return list(value) if isinstance(value, Iterable) and not isinstance(value, str) else [value]
    vr = element.VR if element.VR not in {None, "UN"} else dictionary_VR(_tag(keyword))
    if vr in _WORDS:
        vr = "SS" if _is_signed(ds) else "US"
    if vr not in _FORMATS:
        return bytes(value).decode("ascii", "replace").split("\\")
    kind = np.dtype(("<" if _is_little(ds, element) else ">") + _FORMATS[vr])
    return list(np.frombuffer(bytes(value[: len(value) // kind.itemsize * kind.itemsize]), kind).tolist())


def _number(value: Any) -> float | None:
    if isinstance(value, str):
        found = _NUMBER.match(value)
        return float(found[1].replace(",", ".")) if found else None
    try:
        return float(value)
    except (TypeError, ValueError):
        return None


def _is_signed(ds: Dataset) -> bool:
    element = ds.get_item("PixelRepresentation")
    return element is not None and element.value in (1, b"\x01\x00", b"\x00\x01")


def _is_little(ds: Dataset, element: Any) -> bool:
    if isinstance(element, RawDataElement):
        return bool(element.is_little_endian)
    return ds.original_encoding[1] is not False
