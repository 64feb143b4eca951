"""Backups of embedded indexes: one file that holds everything, written while nothing writes to the index."""

from __future__ import annotations

import gzip
import json
import shutil
import tarfile
import zlib
from collections.abc import Callable
from dataclasses import asdict, dataclass
from io import BytesIO
from pathlib import Path

from index.address import Address
from index.opening import open_index
from model.errors import SettingError, VectorIndexError
from model.files import written_whole

CONTENTS = "backup.json"
_LOCAL = {"lock", "holder.json"}
_COMPRESSION = 1
"""Of gzip: enough for the holes of the engine's files, and its checksums tell a damaged backup."""

_READ_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Backup:
    """What a backup says that it holds."""

    points: int
    model_fingerprint: str


def back_up(address: Address, output: Path, *, progress: Callable[[int, int], None] | None = None) -> Backup:
    """Write the index folder, with its ledger, reports and privacy key, into one tar.gz file that only its owner reads.

    Args:
        address: of an embedded index; it is locked meanwhile.
        output: the file; it must not exist.
        progress: told how many files are written, and of how many.

    Raises:
        SettingError: the index is a server's, or the file exists.
        VectorIndexError: the index cannot be read, or the file cannot be written.
    """
    folder = _folder(address)
    if output.exists():
        raise SettingError(f"{output} exists: name a new file")
    with open_index(address, purpose="cbmir backup", only_reads=True) as opened:
        opened.flush()
        backup = Backup(opened.count(), opened.description.model_fingerprint)
        files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name not in _LOCAL)
        try:
            with (
                written_whole(output, private=True) as partial,
                tarfile.open(partial, mode="w:gz", compresslevel=_COMPRESSION) as tar,
            ):
                contents = json.dumps(asdict(backup)).encode()
                entry = tarfile.TarInfo(CONTENTS)
                entry.size = len(contents)
                tar.addfile(entry, BytesIO(contents))
                for number, path in enumerate(files, 1):
                    tar.add(path, str(path.relative_to(folder)))
                    if progress:
                        progress(number, len(files))
        except OSError as error:
            raise VectorIndexError(f"the backup {output} cannot be written: {error.strerror or error}") from error
    return backup


def restore(backup: Path, address: Address) -> Backup:
    """Unpack a backup into a new index folder, and see that it is undamaged and holds what it says.

    Raises:
        SettingError: the folder exists and is not empty, or is a server's address.
        VectorIndexError: the file is no backup, is damaged, or cannot be unpacked there.
    """
    folder = _folder(address)
    if folder.exists() and any(folder.iterdir()):
        raise SettingError(f"{folder} is not empty: restore into a new folder")
    partial = folder.with_name(folder.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        partial.mkdir(parents=True)
        with gzip.open(backup) as stream:
            with tarfile.open(fileobj=stream, mode="r:") as tar:
                tar.extractall(partial, filter="data")
            # tar stops at its end mark; gzip compares its checksum only where the stream ends.
            while stream.read(_READ_BYTES):
                pass
        promised = Backup(**json.loads((partial / CONTENTS).read_text()))
        (partial / CONTENTS).unlink()
        with open_index(Address(partial), purpose="cbmir restore") as opened:
            found = Backup(opened.count(), opened.description.model_fingerprint)
        if found != promised:
            raise VectorIndexError(
                f"{backup} is damaged: it promises {promised.points:,} points, {found.points:,} came"
            )
        if folder.exists():
            folder.rmdir()
        partial.rename(folder)
    except (OSError, tarfile.TarError, zlib.error, EOFError, ValueError, TypeError) as error:
        raise VectorIndexError(f"{backup} is no backup, is damaged, or has no room in {folder}: {error}") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return found


def _folder(address: Address) -> Path:
    if address.server:
        raise SettingError(
            f"{address} is a server's: give no file for a snapshot on the server, or 'cbmir copy' it into a folder"
        )
    return address.home
