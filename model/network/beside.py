"""Files that lie beside a model and add to it: heads and probes, each with a fingerprint of its own.

What lies beside a model changes nothing of it, nor of any index that was made with it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from model.errors import CheckpointError
from model.files import let_others_read, written_whole

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

FORMAT: Final = 1

Kind = Literal["head", "probe"]

_COMMANDS: Final[Mapping[Kind, str]] = {"head": "cbmir model project", "probe": "cbmir model probe"}


def path_beside(model: Path, kind: Kind, name: str = "") -> Path:
    """The path of a model's head or probe: in an encoder's folder, or beside a model file and named after it."""
    names = [*([] if model.is_dir() else [model.stem]), *([name] if name else []), kind, "safetensors"]
    return (model if model.is_dir() else model.parent) / ".".join(names)


def is_beside_a_model(path: Path) -> bool:
    """Whether a safetensors file is no model, but lies beside one."""
    return path.name.endswith(tuple(f"{kind}.safetensors" for kind in _COMMANDS))


def describe_beside(path: Path, kind: Kind) -> dict[str, Any]:
    """Read the description of a head or probe, without its weights.

    Raises:
        CheckpointError: the file is absent, damaged, or of another version.
    """
    command = f"'{_COMMANDS[kind]}'"
    try:
        with safe_open(path, framework="numpy") as file:
            values: dict[str, Any] = json.loads((file.metadata() or {})[_key(kind)])
        if values.pop("format") != FORMAT:
            raise CheckpointError(f"{path} is a {kind} of another version: fit it anew with {command}")
        return values
    except FileNotFoundError as error:
        raise CheckpointError(f"{path} does not exist: make it with {command}") from error
    except (OSError, SafetensorError, KeyError, ValueError, TypeError, AttributeError) as error:
        raise damaged(path, kind) from error


def read_tensors(path: Path, kind: Kind, names: Sequence[str]) -> list[np.ndarray[Any, Any]]:
    """Its weights, by name.

    Raises:
        CheckpointError: one of them is missing, or the file is damaged.
    """
    try:
        with safe_open(path, framework="numpy") as file:
            return [file.get_tensor(name) for name in names]
    except (OSError, SafetensorError) as error:
        raise damaged(path, kind) from error


def damaged(path: Path, kind: Kind) -> CheckpointError:
    """What is said of a file that is not what its name says."""
    return CheckpointError(f"{path} is no {kind}, or is damaged: fit it anew with '{_COMMANDS[kind]}'")


def refuse_another_model(path: Path, kind: Kind, fitted_on: str, model: Path, fingerprint: str) -> None:
    """Refuse what was fitted on another model than the one beside it, as after a new training in its place.

    Raises:
        CheckpointError: it was.
    """
    if fitted_on != fingerprint:
        raise CheckpointError(
            f"{path} was fitted on another model (fingerprint {fitted_on[:8]}) than {model} ({fingerprint[:8]}): move "
            f"it away, and fit it anew with '{_COMMANDS[kind]}'"
        )


def save_beside(
    path: Path, kind: Kind, description: DataclassInstance, tensors: Mapping[str, np.ndarray[Any, Any]]
) -> str:
    """Write it atomically; return the fingerprint, 32 hexadecimal digits over the description and the weights.

    Raises:
        CheckpointError: the file cannot be written.
    """
    values = asdict(description) | {"fingerprint": ""}
    digest = hashlib.sha256(json.dumps([FORMAT, values], sort_keys=True).encode())
    tensors = {name: np.ascontiguousarray(array) for name, array in tensors.items()}
    for array in tensors.values():
        digest.update(array.data)
    values["fingerprint"] = digest.hexdigest()[:32]
    try:
        with written_whole(path) as partial:
            save_file(tensors, partial, {_key(kind): json.dumps({"format": FORMAT, **values})})
            let_others_read(partial)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{path} cannot be written: {error}") from error
    return str(values["fingerprint"])


def _key(kind: Kind) -> str:
    return f"cbmir-{kind}"
