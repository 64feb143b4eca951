"""Backups of indexes: one file that holds everything, written while nothing writes to the index."""

from __future__ import annotations

import gzip
import json
import shutil
import tarfile
import tempfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from io import BytesIO
from pathlib import Path

from index.address import Address
from index.opening import open_index
from index.upkeep.copy import copy_index
from index.upkeep.storage import reading, writing
from model.errors import SettingError, VectorIndexError
from model.files import absolute
from model.images.sources import is_local

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


Progress = Callable[[str, int, int], None]
"""Told the stage, how much of it is done, and of how much."""


def back_up(address: Address, output: str | Path, *, progress: Progress | None = None) -> Backup:
    """Write an index, with its ledger, reports and privacy key, into one tar.gz file that only its owner reads.

    Of a server's index the points are brought into a folder beside the file first, or into a temporary one where the
    file is in object storage, and compared.

    Args:
        address: of an embedded index, which is locked meanwhile, or of a server's, to which no job should write.
        output: the file, a path or an address as ``s3://bucket/file.tar.gz``; it must not exist.
        progress: told how far it is.

    Raises:
        SettingError: the file exists.
        VectorIndexError: the index cannot be read, was written to meanwhile, or the file cannot be written.
    """
    output = str(output)
    if not address.server:
        return _back_up_folder(address, output, progress)
    if is_local(output) and Path(output).exists():
        raise SettingError(f"{output} exists: name a new file")
    with _work_folder(Path(output).absolute().parent if is_local(output) else Path(tempfile.gettempdir())) as work:
        copied = Address(work / "index")
        copy_index(address, copied, progress=progress)
        return _back_up_folder(copied, output, progress)


def _back_up_folder(address: Address, output: str, progress: Progress | None) -> Backup:
    folder = address.home
    with open_index(address, purpose="cbmir backup", only_reads=True) as opened:
        opened.flush()
        backup = Backup(opened.count(), opened.description.model_fingerprint)
        files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name not in _LOCAL)
        try:
            with (
                writing(output) as stream,
                gzip.GzipFile(fileobj=stream, mode="wb", compresslevel=_COMPRESSION) as compressed,
                tarfile.open(fileobj=compressed, mode="w|") as tar,
            ):
                contents = json.dumps(asdict(backup)).encode()
                entry = tarfile.TarInfo(CONTENTS)
                entry.size = len(contents)
                tar.addfile(entry, BytesIO(contents))
                for number, path in enumerate(files, 1):
                    tar.add(path, str(path.relative_to(folder)))
                    if progress:
                        progress("writing", number, len(files))
        except OSError as error:
            raise VectorIndexError(f"the backup {output} cannot be written: {error.strerror or error}") from error
    return backup


def restore(backup: str | Path, address: Address, *, progress: Progress | None = None) -> Backup:
    """Unpack a backup into a new index, and see that it is undamaged and holds what it says.

    Raises:
        SettingError: there is something already, a folder that is not empty or a collection.
        VectorIndexError: the file is no backup, is damaged, or cannot be unpacked there.
    """
    backup = str(backup)
    if not address.server:
        return _restore_folder(backup, address.home)
    with _work_folder(Path(tempfile.gettempdir())) as work:
        found = _restore_folder(backup, work / "index")
        copy_index(
            Address(work / "index"), address, progress=progress, name=absolute(backup) if is_local(backup) else backup
        )
    return found


def _restore_folder(backup: str, folder: Path) -> Backup:
    if folder.exists() and any(folder.iterdir()):
        raise SettingError(f"{folder} is not empty: restore into a new folder")
    partial = folder.with_name(folder.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        partial.mkdir(parents=True)
        with reading(backup) as file, gzip.open(file) as stream:
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


@contextmanager
def _work_folder(place: Path) -> Iterator[Path]:
    """A folder for an index on its way, which goes afterwards.

    Raises:
        VectorIndexError: it cannot be made there.
    """
    try:
        folder = tempfile.TemporaryDirectory(prefix="cbmir-backup-", dir=place)
    except OSError as error:
        raise VectorIndexError(f"nothing can be written into {place}: {error.strerror or error}") from error
    with folder as name:
        yield Path(name)
