"""The file of a backup, on this machine or in object storage."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from model.errors import SettingError, VectorIndexError
from model.files import written_whole
from model.images.sources import describe_error, file_system, is_local


@contextmanager
def writing(address: str) -> Iterator[IO[bytes]]:
    """A new file to write, which is there when it is whole, or not at all; on this machine only its owner reads it.

    Raises:
        SettingError: there is such a file.
        VectorIndexError: it cannot be written.
    """
    if is_local(address):
        path = Path(address)
        if path.exists():
            raise SettingError(f"{address} exists: name a new file")
        try:
            with written_whole(path, private=True) as partial, partial.open("wb") as file:
                yield file
        except OSError as error:
            raise VectorIndexError(f"the backup {address} cannot be written: {error.strerror or error}") from error
        return
    with _storage_errors(address, "written"):
        system, path_there = file_system(address)
        if system.exists(path_there):
            raise SettingError(f"{address} exists: name a new file")
        stored: Any = system.open(path_there, "wb", autocommit=False)
        try:
            yield stored
            stored.close()
            stored.commit()
        except BaseException:
            stored.discard()
            raise


@contextmanager
def reading(address: str) -> Iterator[IO[bytes]]:
    """A file to read from its beginning.

    Raises:
        SettingError: there is none.
        VectorIndexError: it cannot be read.
    """
    if is_local(address):
        if not Path(address).is_file():
            raise SettingError(f"{address} does not exist")
        with Path(address).open("rb") as file:
            yield file
        return
    with _storage_errors(address, "read"):
        system, path = file_system(address)
        if not system.exists(path):
            raise SettingError(f"{address} does not exist")
        with system.open(path, "rb") as file:
            yield file


@contextmanager
def _storage_errors(address: str, what: str) -> Iterator[None]:
    """Turn the storage's errors into ours; its client libraries raise what they like."""
    try:
        yield
    except (SettingError, VectorIndexError):
        raise
    except Exception as error:
        raise VectorIndexError(f"the backup {address} cannot be {what}: {describe_error(error, address)}") from error
