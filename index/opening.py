"""Making and opening indexes by their address."""

from __future__ import annotations

from pathlib import Path

from index.description_file import NAME, read_description, write_description
from index.interface import Index
from index.lock import IndexLock
from index.schema import Description
from model.checkpoint import read_metadata
from model.errors import CheckpointError, ModelMismatchError, NotAnIndexError, SettingError, VectorIndexError


def open_index(address: str | Path, *, purpose: str, wait: float = 5.0) -> Index:
    """Open an existing index.

    Args:
        address: the index folder.
        purpose: what this process does with it, told to other processes that find it locked.
        wait: seconds to wait for another process to let go.

    Raises:
        NotAnIndexError: there is none at this address.
        IndexLockedError: another process holds it.
        VectorIndexError: it is damaged, or of another schema version.
    """
    folder = index_folder(address)
    read_description(folder)
    return _open(folder, purpose, wait, create=False)


def create_index(address: str | Path, description: Description, *, purpose: str, wait: float = 0.0) -> Index:
    """Make an index, or open the one that is there if it was made by the same model with the same settings.

    Raises:
        ModelMismatchError: the index was made by another model, or with other settings.
        NotAnIndexError: the folder exists, is not empty, and holds no index.
        IndexLockedError, VectorIndexError: as :func:`open_index`.
    """
    folder = index_folder(address)
    try:
        if (folder / NAME).exists():
            check_same(folder, read_description(folder), description)
        else:
            if folder.exists() and any(folder.iterdir()):
                raise NotAnIndexError(f"{folder} is not empty and not an index: name a new or empty folder")
            folder.mkdir(parents=True, exist_ok=True)
            write_description(folder, description)
    except OSError as error:
        raise VectorIndexError(f"an index cannot be made in {folder}: {error.strerror or error}") from error
    index = _open(folder, purpose, wait, create=True)
    try:
        check_same(folder, index.description, description)  # another process may have made it before we had the lock
    except ModelMismatchError:
        index.close()
        raise
    return index


def check_same(folder: Path, existing: Description, wanted: Description) -> None:
    """Refuse to mix features of two models, or points with different vectors, in one index.

    Raises:
        ModelMismatchError: with what differs.
    """
    if existing.model_fingerprint != wanted.model_fingerprint:
        raise ModelMismatchError(
            f"{folder} was made by another model ({existing.model_path}, fingerprint {existing.model_fingerprint[:8]}, "
            f"not {wanted.model_fingerprint[:8]}): use that model, or another index"
        )
    for setting in ("layers", "quantization", "path_privacy", "patient_groups"):
        there, asked = getattr(existing, setting), getattr(wanted, setting)
        if there != asked:
            raise ModelMismatchError(
                f"{folder} has {setting} {there}, not {asked}: leave it as it is, or use another index"
            )


def resolve_model(folder: Path, description: Description, model: Path | None) -> Path:
    """The model to use with an index: the given one, or the one that made it, where that still lies.

    Raises:
        CheckpointError: the model that made the index is gone, or the file is no model.
        ModelMismatchError: the given model did not make the index.
    """
    path = model or Path(description.model_path)
    if model is None and not path.exists():
        raise CheckpointError(f"the model that made {folder} is gone from {path}: name it with --model")
    fingerprint = read_metadata(path).fingerprint
    if fingerprint != description.model_fingerprint:
        raise ModelMismatchError(
            f"{path} (fingerprint {fingerprint[:8]}) did not make {folder}, which needs "
            f"{description.model_fingerprint[:8]}, once at {description.model_path}: use that model, or another index"
        )
    return path


def index_folder(address: str | Path) -> Path:
    """The absolute folder of an embedded index's address.

    Raises:
        SettingError: the address names a server.
    """
    if "://" in str(address):
        raise SettingError(f"{address}: only embedded indexes are supported, give a folder")
    return Path(address).absolute()


def _open(folder: Path, purpose: str, wait: float, *, create: bool) -> Index:
    from index.edge import EdgeIndex

    lock = IndexLock(folder, purpose)
    lock.acquire(wait)
    try:
        return EdgeIndex(folder, lock, create=create)
    except BaseException:
        lock.release()
        raise
