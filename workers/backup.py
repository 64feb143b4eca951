"""Backups of embedded indexes: one file that holds everything, written while nothing writes to the index."""

from __future__ import annotations

import json
import os
import shutil
import tarfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from index.address import parse_address
from index.lock import IndexLock
from index.opening import open_index
from model.errors import SettingError, VectorIndexError

CONTENTS = "backup.json"
_LOCAL = {"lock", "holder.json", CONTENTS}


@dataclass(frozen=True, slots=True)
class Backup:
    """What a backup says that it holds."""

    points: int
    model_fingerprint: str


def back_up(index: str | Path, output: Path, *, progress: Callable[[int, int], None] | None = None) -> Backup:
    """Write the index folder, with its ledger, reports and privacy key, into one tar file, readable to its owner only.

    Args:
        index: folder of an embedded index.
        output: the file; it must not exist.
        progress: told how many files are written, and of how many.

    Raises:
        SettingError: the index is a server's, or the file exists.
        VectorIndexError: the index cannot be read, or the file cannot be written.
    """
    folder = _folder(index)
    if output.exists():
        raise SettingError(f"{output} exists: name a new file")
    with open_index(folder, purpose="cbmir backup") as opened:
        opened.flush()
        backup = Backup(opened.count(), opened.description.model_fingerprint)
    lock = IndexLock(folder, "cbmir backup")
    lock.acquire(5.0)
    partial = output.with_name(output.name + ".partial")
    try:
        files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name not in _LOCAL)
        partial.touch(mode=0o600)
        with partial.open("wb") as raw, tarfile.open(fileobj=raw, mode="w") as tar:
            contents = folder / CONTENTS
            contents.write_text(json.dumps({"points": backup.points, "model_fingerprint": backup.model_fingerprint}))
            tar.add(contents, CONTENTS)
            contents.unlink()
            for number, path in enumerate(files, 1):
                tar.add(path, str(path.relative_to(folder)))
                if progress:
                    progress(number, len(files))
            raw.flush()
            os.fsync(raw.fileno())
        partial.replace(output)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise VectorIndexError(f"the backup {output} cannot be written: {error.strerror or error}") from error
    finally:
        lock.release()
    return backup


def restore(backup: Path, index: str | Path) -> Backup:
    """Unpack a backup into a new index folder, and see that it holds what it says.

    Raises:
        SettingError: the folder exists and is not empty, or is a server's address.
        VectorIndexError: the file is no backup, or is damaged.
    """
    folder = _folder(index)
    if folder.exists() and any(folder.iterdir()):
        raise SettingError(f"{folder} is not empty: restore into a new folder")
    partial = folder.with_name(folder.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        partial.mkdir(parents=True)
        with tarfile.open(backup) as tar:
            tar.extractall(partial, filter="data")
        promised = Backup(**json.loads((partial / CONTENTS).read_text()))
        (partial / CONTENTS).unlink()
        with open_index(partial, purpose="cbmir restore") as opened:
            found = Backup(opened.count(), opened.description.model_fingerprint)
        if found != promised:
            raise VectorIndexError(
                f"{backup} is damaged: it promises {promised.points:,} points, {found.points:,} came"
            )
        if folder.exists():
            folder.rmdir()
        partial.rename(folder)
    except (OSError, tarfile.TarError, ValueError, TypeError) as error:
        raise VectorIndexError(f"{backup} is no backup of an index, or is damaged: {error}") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return found


def _folder(index: str | Path) -> Path:
    address = parse_address(index)
    if not isinstance(address, Path):
        raise SettingError(
            f"{address} is a server's: copy it into a folder with 'cbmir copy', or make a snapshot there"
        )
    return address
