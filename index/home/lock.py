"""The lock of an embedded index: one process holds it, and the others learn which."""

from __future__ import annotations

import json
import os
import socket
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from filelock import FileLock, Timeout

from model.errors import IndexLockedError, VectorIndexError
from model.files import written_whole

LOCK_NAME, HOLDER_NAME = "lock", "holder.json"


@dataclass(frozen=True, slots=True)
class Holder:
    """The process that holds an index.

    Attributes:
        purpose, pid, host, since: for people to read.
        socket: where it answers questions (:mod:`index.engines.owner`); empty if it does not.
    """

    purpose: str
    pid: int
    host: str
    since: str
    socket: str = ""

    def __str__(self) -> str:
        return f"'{self.purpose}' (process {self.pid} on {self.host}, since {self.since})"


class IndexLock:
    """An advisory lock on an index folder; the operating system lets go of it when its process dies.

    Args:
        folder: the index folder; ``lock`` and ``holder.json`` are written into it.
        purpose: what this process does with the index, for the others to read.

    Attributes:
        former: the process that held it before and was killed, once it is acquired; ``None`` if none was.
    """

    def __init__(self, folder: Path, purpose: str) -> None:
        self._folder, self._purpose = folder, purpose
        # Not of one thread: an index that a program keeps open is let go of by another than the one that opened it.
        self._lock = FileLock(folder / LOCK_NAME, thread_local=False)
        self.former: Holder | None = None

    def acquire(self, wait: float) -> None:
        """Take the lock, waiting for it up to ``wait`` seconds.

        Raises:
            IndexLockedError: another process still holds it; the message names that process.
        """
        try:
            self._lock.acquire(timeout=wait)
        except Timeout as error:
            raise in_use(self._folder) from error
        except OSError as error:
            raise VectorIndexError(
                f"{self._folder} cannot be written ({error.strerror or error}), only searched: "
                "'cbmir copy' it to where you may write"
            ) from error
        self.former = holder(self._folder)
        now = datetime.now(UTC).isoformat(timespec="seconds")
        self._holder = Holder(self._purpose, os.getpid(), socket.gethostname(), now)
        try:
            self._write()
        except OSError as error:
            self._lock.release()
            raise VectorIndexError(f"{self._folder} cannot be written: {error.strerror or error}") from error

    def tell_socket(self, path: str) -> None:
        """Let others know where this process answers questions.

        Raises:
            OSError: it cannot be written.
        """
        self._holder = replace(self._holder, socket=path)
        self._write()

    def _write(self) -> None:
        with written_whole(self._folder / HOLDER_NAME) as partial:
            partial.write_text(json.dumps(asdict(self._holder)), encoding="utf-8")

    def release(self) -> None:
        """Let go of the lock."""
        if self._lock.is_locked:
            (self._folder / HOLDER_NAME).unlink(missing_ok=True)
            self._lock.release()


def holder(folder: Path) -> Holder | None:
    """The process that holds the lock now, or held it last; ``None`` if that is unknown."""
    try:
        return Holder(**json.loads((folder / HOLDER_NAME).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):  # not written yet, or being written
        return None


def in_use(folder: Path) -> IndexLockedError:
    """The error that says which process holds an index."""
    return IndexLockedError(
        f"{folder} is in use by {holder(folder) or 'another process'}: wait until it has ended, or stop it"
    )
