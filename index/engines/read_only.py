"""An embedded index where nothing can be written: on a read-only file system, or in another user's folder.

The engine (Qdrant Edge 0.9) opens all of its files for writing even to search in them, and takes no links to them. So
it is given a private copy, in the folder for temporary files, for as long as the index is open: 13 KB a picture.
"""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import tempfile
from pathlib import Path

from index.home.lock import LOCK_NAME, in_use
from model.errors import VectorIndexError

_BLOCK_BYTES = 1 << 20


def is_read_only(folder: Path) -> bool:
    """Whether this process may write nothing into the folder."""
    return folder.is_dir() and not os.access(folder, os.W_OK)


class PrivateCopy:
    """What the engine opens instead of a shard that cannot be written; a lock at the same time, let go with the copy.

    Args:
        folder: the index folder.

    Raises:
        IndexLockedError: a process that may write holds the index now.
        VectorIndexError: there is no room for the copy, or a file may not be read.
    """

    def __init__(self, folder: Path) -> None:
        self._lock = _shared_lock(folder)
        self._temporary = tempfile.TemporaryDirectory(prefix="cbmir-read-only-")
        self.path = Path(self._temporary.name, "shard")
        try:
            _copy(folder / "shard", self.path)
        except OSError as error:
            self.release()
            raise VectorIndexError(
                f"{folder} cannot be written, and no private copy of it can be made in {tempfile.gettempdir()}: "
                f"{error.strerror or error}; name a folder with more room by TMPDIR, or copy the index"
            ) from error

    def release(self) -> None:
        """Remove the copy and let go of the index."""
        self._temporary.cleanup()
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None


def _shared_lock(folder: Path) -> int | None:
    """A lock for reading on the index's lock file, where there is one; it need not be written for that."""
    try:
        descriptor = os.open(folder / LOCK_NAME, os.O_RDONLY)
    except OSError:  # never used by a process that could write, or not readable
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError as error:
        os.close(descriptor)
        if error.errno in {errno.EWOULDBLOCK, errno.EACCES}:
            raise in_use(folder) from error
        return None  # a file system without locks has no writer that could be told
    return descriptor


def _copy(source: Path, target: Path) -> None:
    for path in source.rglob("*"):
        copy = target / path.relative_to(source)
        if path.is_dir():
            copy.mkdir(parents=True, exist_ok=True)
            continue
        copy.parent.mkdir(parents=True, exist_ok=True)
        _copy_data(path, copy)


def _copy_data(source: Path, target: Path) -> None:
    """Copy a file with its holes: the engine's files are larger by name than on disk."""
    with source.open("rb") as read, target.open("wb") as written:
        size = os.fstat(read.fileno()).st_size
        start = 0
        while start < size:
            try:
                start = os.lseek(read.fileno(), start, os.SEEK_DATA)
            except OSError as error:
                if error.errno == errno.ENXIO:  # only a hole is left
                    break
                shutil.copyfileobj(read, written)  # a file system that knows no holes
                break
            end = os.lseek(read.fileno(), start, os.SEEK_HOLE)
            os.lseek(written.fileno(), start, os.SEEK_SET)
            while start < end:
                start += os.sendfile(written.fileno(), read.fileno(), start, min(_BLOCK_BYTES, end - start))
        written.truncate(size)
