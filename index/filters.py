"""What people mean by ``modality=ct``: filters as they are typed, and as they are stored."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from index.engines.engine import MISSING, Searchable
from index.schema import KEYWORDS
from model.errors import SettingError
from model.suggestions import unknown_name

_FEW_VALUES = ("organ", "best_guess", "label", "modality", "body_part_examined")
"""Fields whose values are words of a short list; the others hold UIDs and hashes, which nobody types from memory."""

_LOWER_CASE = ("view", "localizer")
"""Fields with words of ours; an index of an earlier version cannot count them."""

_MOST_SHOWN = 12


def check_fields(names: Collection[str]) -> None:
    """Refuse a filter by what is no field.

    Raises:
        SettingError: names the field, and those that there are.
    """
    for name in names:
        if name not in KEYWORDS:
            raise SettingError(f"--where {name}=…: {unknown_name('field', name, KEYWORDS)}")


def as_stored(index: Searchable, where: Mapping[str, Collection[str]]) -> tuple[dict[str, tuple[str, ...]], list[str]]:
    """The filter in the spelling of the index: ``ct`` means CT, and ``unknown`` what lacks the field.

    Returns:
        The filter, and a sentence about each value that no point of the index has.

    Raises:
        SettingError: a field is unknown.
    """
    check_fields(where)
    stored: dict[str, tuple[str, ...]] = {}
    notes = []
    for name, values in where.items():
        if name in _LOWER_CASE:
            stored[name] = tuple(value.lower() for value in values)
            continue
        if name not in _FEW_VALUES:
            stored[name] = tuple(values)
            continue
        counts = index.facet(name)
        stored[name] = tuple(dict.fromkeys(one for value in values for one in _spellings(value, counts)))
        for value in values:
            if not set(_spellings(value, counts)) & counts.keys() and value != MISSING:
                listed = ", ".join(f"{one} ({count:,})" for one, count in list(counts.items())[:_MOST_SHOWN])
                more = f", and {len(counts) - _MOST_SHOWN:,} more" if len(counts) > _MOST_SHOWN else ""
                notes.append(f"nothing in the index has {name}={value}; it has {listed or 'no value of it'}{more}")
    return stored, notes


def _spellings(value: str, counts: Mapping[str, int]) -> list[str]:
    if value in counts or value == MISSING:
        return [value]
    return [one for one in counts if one.casefold() == value.casefold()] or [value]


def check_label(index: Searchable, label: str) -> None:
    """Refuse a true class that neither a label nor the model of the index knows: every hit would be called wrong.

    Raises:
        SettingError: names those that there are.
    """
    known = dict.fromkeys((*index.facet("label"), *index.description.classes))
    if label not in known:
        raise SettingError(f"--label {label}: {unknown_name('class', label, known)}")
