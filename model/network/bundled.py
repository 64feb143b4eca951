"""The models that come with the program: small enough to be in its package, so that nobody has to train first."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from model.errors import CheckpointError
from model.network.beside import is_beside_a_model
from model.network.encoder import NAME as ENCODER
from model.network.joined import NAME as JOINED
from model.network.metadata import read_metadata

FOLDER: Final = Path(__file__).parents[1] / "weights"

DEFAULT: Final = "atlas"
"""Used where no model is named: the network of organs24, with a head and a probe beside it that were fitted on more.

Its file is a link to that of organs24, which is the same network without them.
"""


def bundled_models() -> dict[str, Path]:
    """The models' files, by name."""
    return {path.stem: path for path in sorted(FOLDER.glob("*.safetensors")) if not is_beside_a_model(path)}


def find_model(model: str | Path | None = None) -> Path:
    """Where a model is: a path of a file or folder, a bundled one's name, or "bundled" or nothing for the default.

    Raises:
        CheckpointError: there is neither a file nor a bundled model of that name.
    """
    path = Path(model or "")
    if model is not None and (path.is_file() or (path / ENCODER).is_file() or (path / JOINED).is_file()):
        return path
    name = DEFAULT if model is None or str(model) == "bundled" else str(model)
    if found := bundled_models().get(name):
        return found
    known = ", ".join(bundled_models()) or "none"
    raise CheckpointError(
        f"{name} does not exist: give a model written by 'cbmir train', a folder made by 'cbmir model import' or "
        f"'join', or a bundled model ({known})"
    )


def bundled_with(fingerprint: str) -> Path | None:
    """The bundled model of that fingerprint, wherever the program was installed when an index was made by it."""
    return next((path for path in bundled_models().values() if read_metadata(path).fingerprint == fingerprint), None)
