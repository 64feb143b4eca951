"""Where a Ray that is started here keeps its sockets and its token, also where TMPDIR or the home is none for it."""

from __future__ import annotations

import os
import secrets
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from model.errors import JobError
from model.files import absolute

_SOCKET_BYTES: Final = 107
"""Longest path of a Unix socket on Linux."""

_BELOW: Final = "/ray/session_2026-11-27_02-48-59_265330_4194304/sockets/plasma_store"
"""What Ray puts behind the folder for temporary files; the last number is the largest of a process."""

_SHORT: Final = ("/tmp", "/var/tmp", "/dev/shm")  # noqa: S108 (only asked whether they can be written)

_TOKEN: Final = "RAY_AUTH_TOKEN"  # noqa: S105 (the name of a variable)


def temporary_folder() -> Path:
    """The folder for Ray's sockets: that for temporary files, or one with a short path where that is unsuitable.

    A socket's path must be short, in ASCII, and absolute, as Ray's processes have another working directory.

    Raises:
        JobError: there is none.
    """
    named = os.environ.get("RAY_TMPDIR") or tempfile.gettempdir()
    for folder in (absolute(named), *_SHORT):
        if folder.isascii() and len(folder + _BELOW) <= _SOCKET_BYTES and _can_write(Path(folder)):
            return Path(folder)
    longest = _SOCKET_BYTES - len(_BELOW)
    raise JobError(
        f"Ray needs a folder for its sockets, and {named} is none: set TMPDIR to one of at most {longest} ASCII "
        "characters that can be written"
    )


def _can_write(folder: Path) -> bool:
    try:
        with tempfile.NamedTemporaryFile(dir=folder):
            return True
    except OSError:
        return False


@contextmanager
def token() -> Iterator[None]:
    """Let a Ray that is started here find its authentication token.

    Ray keeps one in the user's home. Where nothing can be written there, one is set in this process's environment until
    the context ends, and Ray's processes inherit it.
    """
    if os.environ.get(_TOKEN) or os.environ.get("RAY_AUTH_TOKEN_PATH") or _home_keeps_tokens():
        yield
        return
    os.environ[_TOKEN] = secrets.token_hex(32)
    try:
        yield
    finally:
        del os.environ[_TOKEN]


def _home_keeps_tokens() -> bool:
    try:
        folder = Path.home() / ".ray"
        if (folder / "auth_token").exists():
            return os.access(folder / "auth_token", os.R_OK)
        folder.mkdir(exist_ok=True)
    except (OSError, RuntimeError):  # a user without a home, or whose home cannot be written
        return False
    return _can_write(folder)
