"""The models that come with the program: small enough to be in its package, so that nobody has to train first."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from model.errors import CheckpointError
from model.network.encoder import NAME as ENCODER
from model.network.heads import SUFFIX
from model.network.metadata import read_metadata

FOLDER: Final = Path(__file__).parents[1] / "weights"

DEFAULT: Final = "organs24"
"""Used where no model is named."""


def bundled_models() -> dict[str, Path]:
    """The models' files, by name."""
    return {path.stem: path for path in sorted(FOLDER.glob("*.safetensors")) if not path.name.endswith(SUFFIX)}


def find_model(model: str | Path | None = None) -> Path:
    """Where a model is: a path of a file or encoder, a bundled one's name, or "bundled" or nothing for the default.

    Raises:
        CheckpointError: there is neither a file nor a bundled model of that name.
    """
    if model is not None and (Path(model).is_file() or (Path(model) / ENCODER).is_file()):
        return Path(model)
    name = DEFAULT if model is None or str(model) == "bundled" else str(model)
    if found := bundled_models().get(name):
        return found
    known = ", ".join(bundled_models()) or "none"
    raise CheckpointError(
        f"{name} does not exist: give a model written by 'cbmir train', a folder made by 'cbmir model import', or a "
        f"bundled model ({known})"
    )


def bundled_with(fingerprint: str) -> Path | None:
    """The bundled model of that fingerprint, wherever the program was installed when an index was made by it."""
    return next((path for path in bundled_models().values() if read_metadata(path).fingerprint == fingerprint), None)
