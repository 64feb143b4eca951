"""Sentences about a name that is unknown, with the known one that it is most like."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


def unknown_name(kind: str, name: str, known: Iterable[str]) -> str:
    """``there is no layer 'fc1': did you mean 'fcl1'? There are fcl1, fcl2, fcl3``."""
    names = list(known)
    by_case = {one.casefold(): one for one in names}
    near = get_close_matches(name.casefold(), by_case, 1, cutoff=0.6)
    guess = f"did you mean {by_case[near[0]]!r}? There are" if near else "there are"
    return f"there is no {kind} {name!r}: {guess} {', '.join(names) or 'none'}"
