"""``index.json``: the description of an embedded index, which Qdrant Edge has no place for."""

from __future__ import annotations

import json
import os
from dataclasses import asdict
from pathlib import Path

from index.schema import SCHEMA_VERSION, Description
from model.errors import NotAnIndexError, VectorIndexError

NAME = "index.json"


def read_description(folder: Path, *, any_version: bool = False) -> Description:
    """Read the description of the index in ``folder``; needs no lock and no engine.

    With ``any_version`` also one of an older schema, for an index that is to be made anew as it was.

    Raises:
        NotAnIndexError: there is no folder, or no index in it.
        VectorIndexError: the description is damaged, or of another schema version.
    """
    if not folder.is_dir():
        raise NotAnIndexError(f"{folder} does not exist: make an index with 'cbmir index ARCHIVE --index {folder}'")
    try:
        values = json.loads((folder / NAME).read_text())
    except FileNotFoundError as error:
        raise NotAnIndexError(f"{folder} is not an index: it holds no {NAME}") from error
    except (OSError, ValueError) as error:
        raise VectorIndexError(f"{folder / NAME} cannot be read ({error}): restore it, or index anew") from error
    if (version := values.get("schema_version")) != SCHEMA_VERSION and not any_version:
        raise VectorIndexError(
            f"{folder} has schema version {version}, this program {SCHEMA_VERSION}: index with --reembed"
        )
    for name in ("classes", "layers", "roots"):
        values[name] = tuple(values[name])
    try:
        return Description(**values)
    except TypeError as error:
        raise VectorIndexError(f"{folder / NAME} is incomplete ({error}): restore it, or index anew") from error


def write_description(folder: Path, description: Description) -> None:
    """Write atomically: whoever reads, or loses power, finds the old description or the new one."""
    partial = folder / f"{NAME}.partial"
    try:
        with partial.open("w") as file:
            json.dump(asdict(description), file, indent=1)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(folder / NAME)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise VectorIndexError(f"{folder / NAME} cannot be written: {error.strerror or error}") from error
