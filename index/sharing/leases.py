"""Leases on the roots of a server's index: two jobs do not work at the same archive.

No two clocks are compared. Who holds a lease changes its beat every few seconds; who wants it watches for that.
"""

from __future__ import annotations

import logging
import os
import socket
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import replace
from pathlib import Path

from index.sharing.collection import Lease, LedgerCollection, Session
from model.errors import IndexLockedError, VectorIndexError

BEAT_SECONDS = 5.0
"""Between two signs of life."""

LIFE_SECONDS = 60.0
"""Without a sign of life, after which a lease can be taken over."""

_LOOK_SECONDS = 1.0

_log = logging.getLogger("cbmir.index")


class Leases:
    """The leases of one session, kept alive by a thread until they are released.

    Args:
        connect: makes a connection of their own.
        session: that holds them.
    """

    def __init__(self, connect: Callable[[], LedgerCollection], session: Session) -> None:
        self._collection, self._session = connect(), session
        self._held: dict[int, Lease] = {}
        self._archives: dict[int, str] = {}
        self._lost: str | None = None
        self._connect = connect
        self._alive_at = time.monotonic()
        self._released = threading.Event()
        self._thread = threading.Thread(target=self._keep_alive, name="cbmir-leases", daemon=True)

    def claim(self, roots: Mapping[int, str]) -> None:
        """Take the leases of roots, by number, with their addresses; all or none.

        Raises:
            IndexLockedError: a process that lives holds one.
            VectorIndexError: the server cannot be asked.
        """
        taken = []
        try:
            for root in sorted(roots.keys() - self._held.keys()):
                self._archives[root] = roots[root]
                self._take(root, roots[root])
                taken.append(root)
                if not self._thread.is_alive():  # the first one must not lapse while another is watched
                    self._alive_at = time.monotonic()
                    self._thread.start()
        except BaseException:
            for root in taken:
                self._give_back(self._held.pop(root))
            raise

    def holds(self, root: int) -> bool:
        """Whether this session has the lease of a root."""
        return root in self._held

    def check(self) -> None:
        """See that the leases are still held; after a while without a sign of life, by asking.

        Raises:
            IndexLockedError: another process has taken one over.
            VectorIndexError: the server cannot be asked.
        """
        if not self._lost and time.monotonic() - self._alive_at > LIFE_SECONDS / 2:
            for root, lease in list(self._held.items()):
                if (there := self._collection.lease(root)) is None or there.session != lease.session:
                    self._lose(root, there)
        if self._lost:
            raise IndexLockedError(self._lost)

    def release(self) -> None:
        """Give back what is held."""
        self._released.set()
        if self._thread.is_alive():
            self._thread.join()
        try:
            for lease in self._held.values():
                self._give_back(lease)
        except VectorIndexError as error:  # the server is away: whoever comes next waits until they lapse
            _log.warning("%s", error)
        finally:
            self._held.clear()
            self._collection.close()

    def _give_back(self, lease: Lease) -> None:
        self._collection.replace_lease(replace(lease, session="", beat=lease.beat + 1), lease.session)

    def _take(self, root: int, archive: str) -> None:
        seen: tuple[str, int] | None = None
        quiet_since = time.monotonic()
        while True:
            there = self._collection.lease(root)
            quiet = time.monotonic() - quiet_since
            if there is None or not there.session or _is_dead(there) or (seen and quiet > LIFE_SECONDS):
                ours = self._wanted(root, there)
                if self._collection.replace_lease(ours, there.session if there else ""):
                    self._held[root] = ours
                    if there and there.session:
                        self._collection.end_session(there.session)
                    return
                seen, quiet_since = None, time.monotonic()
                continue
            if there.machine == machine() or (seen and seen != (there.session, there.beat)):
                raise IndexLockedError(f"{archive} is being indexed by {there}: wait until it has ended, or stop it")
            if seen is None:
                seen, quiet_since = (there.session, there.beat), time.monotonic()
                _log.warning("%s was being indexed by %s: watching whether that still lives", archive, there)
            time.sleep(_LOOK_SECONDS)

    def _wanted(self, root: int, there: Lease | None) -> Lease:
        who = self._session
        beat = there.beat + 1 if there else 0
        start = process_start(who.process)
        return Lease(root, str(who.id), machine(), who.process, who.host, who.purpose, who.since, start, beat)

    def _keep_alive(self) -> None:
        with closing(self._connect()) as collection:  # of its own, as a client is exchanged after a failure
            while not self._released.wait(BEAT_SECONDS):
                try:
                    for root, lease in list(self._held.items()):
                        self._beat(collection, root, lease)
                    self._alive_at = time.monotonic()
                except VectorIndexError:
                    continue  # the server is away; the job's own calls say so, and wait for it
                except Exception as error:  # it must not end unseen: the leases would lapse
                    _log.warning("no sign of life could be given: %r", error)

    def _beat(self, collection: LedgerCollection, root: int, lease: Lease) -> None:
        changed = replace(lease, beat=lease.beat + 1)
        if collection.replace_lease(changed, lease.session):
            self._held[root] = changed
            return
        there = collection.lease(root)
        if there and there.session == lease.session:
            self._held[root] = there  # a write that was thought lost had come through
        elif root in self._held:
            self._lose(root, there)

    def _lose(self, root: int, there: Lease | None) -> None:
        self._lost = (
            f"{self._archives[root]} was taken over by {there or 'nobody known'}, as this job gave no sign of life for "
            f"{LIFE_SECONDS:.0f} s: it stops, and the same command goes on when the other has ended"
        )
        self._held.pop(root, None)


def machine() -> str:
    """Name of this machine, its start and the process numbers that are seen here."""
    boot = Path("/proc/sys/kernel/random/boot_id")
    numbers = Path("/proc/self/ns/pid")
    started = boot.read_text().strip() if boot.exists() else ""
    return f"{socket.gethostname()}/{started}/{numbers.stat().st_ino if numbers.exists() else ''}"


def process_start(process: int) -> int:
    """When a process of this machine was started, in the system's ticks; 0 if there is none, or it cannot be told."""
    try:
        return int(Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[19])
    except (OSError, ValueError, IndexError):
        return 0


def _is_dead(lease: Lease) -> bool:
    """Whether the holder was a process of this machine that is no more."""
    if lease.machine != machine():
        return False
    try:
        os.kill(lease.process, 0)
    except ProcessLookupError:
        return True
    except PermissionError:  # another user's
        pass
    # A restarted container has the numbers of the one before.
    return bool(lease.process_start) and process_start(lease.process) not in {0, lease.process_start}
