"""Finding files: a stream of everything below the given roots, with size and time, and nothing opened."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from model.errors import JobError


@dataclass(frozen=True, slots=True)
class FoundFile:
    """A file below a root: its name there, its size in bytes and the time of its last change in nanoseconds."""

    name: str
    size: int
    mtime_ns: int


@dataclass(frozen=True, slots=True)
class FoundDirectory:
    """One directory's files, in order of their names, and what could not be looked at (name → why).

    ``path`` is relative to the root, with ``/`` between its parts and empty for the root itself.
    """

    path: str
    files: list[FoundFile]
    unreadable: dict[str, str]


def resolve_root(archive: str | Path) -> Path:
    """The absolute path of a folder or file to index.

    Raises:
        JobError: it does not exist.
    """
    root = Path(os.path.abspath(archive))  # noqa: PTH100 (absolute() keeps "..", which would make a second root)
    if not root.exists():
        raise JobError(f"{root} does not exist: give a folder or a file to index")
    return root


def discover(root: Path, below: str = "", *, skip: frozenset[Path] = frozenset()) -> Iterator[FoundDirectory]:
    """Walk a root, or what lies at ``below`` in it, depth first and in order of names.

    Memory is bounded by one directory. A file stands for itself; as a root it has no name. Links to files are followed;
    links to directories are not, as they may lead in circles. Hidden files are files like any other. Directories in
    ``skip`` are left out. A directory that cannot be read has itself, the empty name, among its ``unreadable``.
    """
    start = root / below if below else root
    if not start.is_dir():
        status = start.stat()
        directory, _, name = below.rpartition("/")
        yield FoundDirectory(directory, [FoundFile(name, status.st_size, status.st_mtime_ns)], {})
        return
    pending = [(str(start), below)]
    while pending:
        absolute, relative = pending.pop()
        prefix = f"{relative}/" if relative else ""
        files: list[FoundFile] = []
        unreadable: dict[str, str] = {}
        inner: list[tuple[str, str]] = []
        try:
            with os.scandir(absolute) as entries:
                for entry in entries:
                    if not _is_text(entry.name):
                        unreadable[entry.name.encode(errors="backslashreplace").decode()] = "its name is not UTF-8"
                        continue
                    if entry.is_dir(follow_symlinks=False):
                        if not skip or Path(entry.path) not in skip:
                            inner.append((entry.path, prefix + entry.name))
                        continue
                    try:
                        status = entry.stat()
                    except OSError as error:
                        unreadable[entry.name] = error.strerror or str(error)
                        continue
                    if stat.S_ISREG(status.st_mode):
                        files.append(FoundFile(entry.name, status.st_size, status.st_mtime_ns))
                    elif not stat.S_ISDIR(status.st_mode):
                        unreadable[entry.name] = "no regular file"
        except OSError as error:
            unreadable[""] = error.strerror or str(error)
        files.sort(key=lambda file: file.name)
        inner.sort(reverse=True)
        pending.extend(inner)
        yield FoundDirectory(relative, files, unreadable)


def _is_text(name: str) -> bool:
    """Whether a name can be stored: Python stands in surrogates for the bytes of a name that is not UTF-8."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True
