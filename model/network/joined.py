"""Joined models: several in one folder, each layer of which an index stores as a named vector of the same points.

The folder holds a copy of each, with its heads and its probe, and ``joined.json`` with their names in order, or with
where they lie by name. A layer is called by its model's name and its own, as ``lite0.pooled``; one more, ``joined``, is
the first of each, one behind the other. Heads and a probe that were fitted on that lie in the folder itself.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from model.errors import CheckpointError, SettingError
from model.files import folder_made_whole

NAME: Final = "joined.json"

FORMAT: Final = 1

LAYER: Final = "joined"
"""The first layer of each model, every vector divided by its length, one behind the other."""

MEMBER_NAME: Final = re.compile(r"[A-Za-z0-9_-]{1,40}")


def members_of(model: Path) -> dict[str, Path]:
    """The models that a folder joins, by name; none of any other model.

    Raises:
        CheckpointError: the folder is damaged.
    """
    path = model / NAME
    if not path.is_file():
        return {}
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        if values["format"] != FORMAT:
            raise CheckpointError(f"{path} is of another version: join the models anew with 'cbmir model join'")
        listed = values["members"]
        named = listed if isinstance(listed, dict) else dict.fromkeys(listed, "")
        names = [name for name in named if MEMBER_NAME.fullmatch(name)]
        members = {name: model / named[name] if named[name] else _member(model, name) for name in names}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"{path} is damaged: join the models anew with 'cbmir model join'") from error
    if gone := next((path for path in members.values() if not path.exists()), None):
        raise CheckpointError(f"{gone} is gone: put it back, or join the models anew with 'cbmir model join'")
    return members


def by_member(layers: Mapping[str, Sequence[str]]) -> tuple[str, ...]:
    """The names of the models' layers in the joined model."""
    return tuple(f"{name}.{layer}" for name, own in layers.items() for layer in own)


def join_models(models: Mapping[str, Path], folder: Path, beside: Mapping[str, Sequence[Path]]) -> None:
    """Copy models into a new folder, which joins them.

    Args:
        models: their files and folders, by the name that each is to have.
        folder: to make.
        beside: by the same names, the heads and the probe of each model that is a file.

    Raises:
        SettingError: a name cannot be one, or the folder is there already.
        CheckpointError: it cannot be written.
    """
    for name in models:
        if not MEMBER_NAME.fullmatch(name):
            raise SettingError(f"{name!r} cannot name a layer: call the model by letters, digits, '-' and '_'")
    if folder.exists():
        raise SettingError(f"{folder} is there already: choose another --name")
    try:
        with folder_made_whole(folder) as partial:
            for name, model in models.items():
                if model.is_dir():
                    shutil.copytree(model, partial / name)
                    continue
                shutil.copyfile(model, partial / f"{name}.safetensors")
                for path in beside[name]:
                    shutil.copyfile(path, partial / f"{name}{path.name.removeprefix(model.stem)}")
            text = json.dumps({"format": FORMAT, "members": list(models)}, indent=1) + "\n"
            (partial / NAME).write_text(text, encoding="utf-8")
    except OSError as error:
        raise CheckpointError(f"{folder} cannot be written: {error.strerror or error}") from error


def _member(folder: Path, name: str) -> Path:
    return folder / name if (folder / name).is_dir() else folder / f"{name}.safetensors"
