"""``index.json``: the description of an embedded index, which Qdrant Edge has no place for."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from index.schema import SCHEMA_VERSION, Description
from model.errors import NotAnIndexError, NothingThereError, VectorIndexError
from model.files import written_whole

NAME = "index.json"


def read_description(folder: Path, *, any_version: bool = False) -> Description:
    """Read the description of the index in ``folder``; needs no lock and no engine.

    With ``any_version`` also one of an older schema, for an index that is to be made anew as it was.

    Raises:
        NothingThereError: there is no folder, or it is empty.
        NotAnIndexError: there is no index in it.
        VectorIndexError: the description is damaged, or of another schema version.
    """
    path = folder / NAME
    try:
        text = path.read_text(encoding="utf-8")
    except (FileNotFoundError, NotADirectoryError) as error:
        if folder.is_dir() and any(folder.iterdir()):
            raise NotAnIndexError(f"{folder} is not an index: it holds no {NAME}") from error
        if folder.exists() and not folder.is_dir():
            raise NotAnIndexError(f"{folder} is a file, not the folder of an index") from error
        lacking = "is not an index, as it is empty" if folder.is_dir() else "does not exist"
        raise NothingThereError(
            f"{folder} {lacking}: make an index with 'cbmir index ARCHIVE --index {folder}'"
        ) from error
    except (OSError, ValueError) as error:
        raise VectorIndexError(f"{path} cannot be read ({error}): restore it, or index anew") from error
    try:
        values: Any = json.loads(text)
        if not isinstance(values, dict):
            raise TypeError("it is no JSON object")
        version = values.get("schema_version")
        if version != SCHEMA_VERSION and not any_version:
            raise VectorIndexError(
                f"{folder} has schema version {version}, this program {SCHEMA_VERSION}: index with --reembed"
            )
        return description_from(values)
    except (ValueError, TypeError, KeyError) as error:
        raise VectorIndexError(
            f"{path} is damaged, or of another program ({_what(error)}): restore it, or index anew"
        ) from error


def _what(error: Exception) -> str:
    return f"{error} is missing" if isinstance(error, KeyError) else str(error)


def description_from(values: Mapping[str, Any]) -> Description:
    """The description that was written as JSON.

    Raises:
        KeyError, TypeError: a field is missing, of another kind, or unknown.
    """
    values = {"dot_layers": [], **values}
    lists = ("classes", "layers", "roots", "dot_layers")
    for name in lists:
        if not (isinstance(values[name], list) and all(isinstance(one, str) for one in values[name])):
            raise TypeError(f"{name} is no list of names")
    for name in ("model_fingerprint", "model_path", "viewer_url"):
        if not isinstance(values.get(name, ""), str):
            raise TypeError(f"{name} is no text")
    if "dimension" in values:  # of version 0.1, whose layers were all of one length
        lengths = dict.fromkeys(values["layers"], values["dimension"])
        values = {**{name: value for name, value in values.items() if name != "dimension"}, "dimensions": lengths}
    if unknown := sorted(set(values) - {field.name for field in fields(Description)}):
        raise TypeError(f"there is no field {unknown[0]!r}")
    return Description(**{**values, **{name: tuple(values[name]) for name in lists}})


def write_description(folder: Path, description: Description) -> None:
    """Write atomically: whoever reads, or loses power, finds the old description or the new one."""
    try:
        with written_whole(folder / NAME) as partial:
            partial.write_text(json.dumps(asdict(description), indent=1), encoding="utf-8")
    except OSError as error:
        raise VectorIndexError(f"{folder / NAME} cannot be written: {error.strerror or error}") from error
