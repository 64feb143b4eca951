"""Files of this machine: their absolute paths, and writing one whole or not at all."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def absolute(path: str | Path) -> str:
    """A local path from the root, without ``..``, by which one folder would have two names."""
    return os.path.abspath(path)  # noqa: PTH100 (Path.absolute keeps "..", Path.resolve follows links)


@contextmanager
def written_whole(path: Path, *, private: bool = False) -> Iterator[Path]:
    """Let a file be written beside its place, and put it there when it is whole and flushed to disk.

    Whoever reads, or loses power, finds the old file or the new one; a file that could not be written leaves nothing.

    Args:
        path: of the file; one that is there already is replaced.
        private: only its owner may read it, from its first byte on.

    Yields:
        The path to write to.

    Raises:
        OSError: it cannot be written.
    """
    partial = path.with_name(path.name + ".partial")
    try:
        if private:
            partial.unlink(missing_ok=True)
            partial.touch(mode=0o600, exist_ok=False)
        yield partial
        _flush(partial)
        partial.replace(path)
        _flush_names(path.parent)
    finally:
        partial.unlink(missing_ok=True)


@contextmanager
def folder_made_whole(folder: Path) -> Iterator[Path]:
    """Let a folder be filled beside its place, and put it there when it is whole; else nothing is left behind.

    Args:
        folder: to make; it does not exist yet.

    Yields:
        The folder to fill.

    Raises:
        OSError: it cannot be written.
    """
    partial = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    try:
        yield partial
        partial.rename(folder)
        _flush_names(folder.parent)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _flush(path: Path) -> None:
    """Have a file's contents, or a folder's names, reach the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _flush_names(folder: Path) -> None:
    """The file is in its place already: a network file system that cannot flush folders is no reason to fail."""
    try:
        _flush(folder)
    except OSError as error:
        if error.errno not in {errno.EINVAL, errno.ENOTSUP, errno.EBADF, errno.EACCES}:
            raise


def let_others_read(path: Path) -> None:
    """Give a file the mode that a new one has: safetensors writes files that only their owner reads."""
    mask = os.umask(0)
    os.umask(mask)
    path.chmod(0o666 & ~mask)
