"""Indexes that are still being copied, or made anew: a part must not be taken for the whole."""

from __future__ import annotations

import json
from pathlib import Path

from model.errors import VectorIndexError

BUILDING, REPLACED = ".reembedding", ".replaced"
"""Suffixes of the folders beside an index in which a new one is built, and from which the old one is removed."""

MARKER = "copy.json"
"""File in the folder of a copy until it is complete: it names the copied index and the last point that was stored."""


def refuse_unfinished_copy(folder: Path) -> None:
    """Refuse to use a part of an index.

    Raises:
        VectorIndexError: the folder's index is an unfinished copy.
    """
    if (folder / MARKER).exists():
        raise VectorIndexError(
            f"{folder} belongs to an unfinished copy of {source_of(folder / MARKER)}: run the same command again"
        )


def source_of(marker: Path) -> str:
    """The address of the source index of an unfinished copy.

    Raises:
        VectorIndexError: the marker is damaged.
    """
    try:
        return str(json.loads(marker.read_text())["source"])
    except (OSError, ValueError, KeyError) as error:
        raise VectorIndexError(f"{marker} is damaged: delete the copy and copy again ({error})") from error
