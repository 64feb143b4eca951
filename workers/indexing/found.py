"""What a walk finds, wherever it walks: files of directories, and what could not be looked at."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple


class FoundFile(NamedTuple):
    """A file below a root: its name there, its size in bytes and the time of its last change in nanoseconds.

    Of a file system without times ``mtime_ns`` is another number that changes with the file's content.
    """

    name: str
    size: int
    mtime_ns: int


@dataclass(frozen=True, slots=True)
class FoundDirectory:
    """One directory's files, in order of their names, and what could not be looked at (name → why).

    ``path`` is relative to the root, with ``/`` between its parts and empty for the root itself. Of an
    ``incomplete`` one the walk cannot say that something is gone from it, or from what lies below it.
    """

    path: str
    files: list[FoundFile]
    unreadable: dict[str, str]
    incomplete: bool = False
