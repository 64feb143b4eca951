"""The models that come with the program: small enough to be in its package, so that nobody has to train first."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Final

from model.errors import CheckpointError
from model.network.beside import is_beside_a_model
from model.network.encoder import CARD
from model.network.encoder import NAME as ENCODER
from model.network.joined import NAME as JOINED
from model.network.layers import LAYERS
from model.network.metadata import read_metadata

FOLDER: Final = Path(__file__).parents[1] / "weights"

DEFAULT: Final = "pair"
"""Used where no model is named: the networks of organs24 and of lite0, with a head and a probe behind both."""

NETWORK: Final = "atlas"
"""Used where the paper's network is asked for: that of organs24, with a head and a probe that were fitted on more.

Its file is a link to that of organs24, which is the same network without them.
"""


def bundled_models() -> dict[str, Path]:
    """The models' files and folders, by name."""
    files = [path for path in FOLDER.glob("*.safetensors") if not is_beside_a_model(path)]
    folders = [path.parent for name in (ENCODER, JOINED) for path in FOLDER.glob(f"*/{name}")]
    return {path.stem: path for path in sorted(files + folders)}


def bundled_card(path: Path) -> Path:
    """Where the model card of a bundled model lies."""
    return path / CARD if path.is_dir() else path.with_suffix(".md")


def find_model(model: str | Path | None = None, layers: Collection[str] = ()) -> Path:
    """Where a model is: a path of a file or folder, a bundled one's name, or "bundled" or nothing for the default.

    The default is :data:`DEFAULT`; where the paper's layers are asked for it is :data:`NETWORK`, which has them.

    Raises:
        CheckpointError: there is neither a file nor a bundled model of that name.
    """
    path = Path(model or "")
    if model is not None and (path.is_file() or (path / ENCODER).is_file() or (path / JOINED).is_file()):
        return path
    default = NETWORK if layers and set(layers) <= set(LAYERS) else DEFAULT
    name = default if model is None or str(model) == "bundled" else str(model)
    if found := bundled_models().get(name):
        return found
    known = ", ".join(bundled_models()) or "none"
    raise CheckpointError(
        f"{name} does not exist: give a model written by 'cbmir train', a folder made by 'cbmir model import' or "
        f"'join', or a bundled model ({known})"
    )


def find_network(model: str | Path) -> Path:
    """As :func:`find_model`, but "bundled" is the paper's network, where one network is trained on or written out.

    Raises:
        CheckpointError: as :func:`find_model`.
    """
    return find_model(model, LAYERS)


def bundled_with(fingerprint: str) -> Path | None:
    """The bundled model of that fingerprint, wherever the program was installed when an index was made by it."""
    return next((path for path in bundled_models().values() if read_metadata(path).fingerprint == fingerprint), None)
