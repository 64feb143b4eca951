"""The ledger of a server's index: this machine's copy, which asks before it reads and tells whatever it writes."""

from __future__ import annotations

import json
import logging
import os
import socket
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from uuid import UUID, uuid4

from index.engines.server import READ_PATIENCE_SECONDS, WRITE_PATIENCE_SECONDS
from index.ledger import FileKey, FileRecord, JobRecord, Ledger, Row
from index.sharing.collection import FORGOTTEN, LedgerCollection, Session
from index.sharing.leases import Leases
from model.errors import VectorIndexError

_SCHEMA = """
CREATE TABLE IF NOT EXISTS shared (identity TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS sessions (id TEXT PRIMARY KEY, job INTEGER, known INTEGER NOT NULL);
"""

_BATCH = 1024

LAST_WORD_SECONDS = 10.0
"""For which a job that ends waits for a server that is away."""

_log = logging.getLogger("cbmir.index")


class SharedLedger(Ledger):
    """A :class:`index.ledger.Ledger` that many machines share.

    What is shared counts. The copy of this machine is brought up to it when it is opened: all rows of sessions that it
    does not know whole. A session that was killed, or whose last writes did not arrive, is never known whole, so that
    what only this machine had of it gives way to what is shared.

    Args:
        home: folder of this machine's copy.
        connect: makes a connection to the collection, which exists, with so many seconds of patience.
        identity: of the collection.
        purpose: what this process does, told to other processes; ``None`` if it only reads.
        hides_paths: paths are hashed in this index, so that a job's error, which may name one, stays here.
    """

    def __init__(
        self,
        home: Path,
        connect: Callable[[float], LedgerCollection],
        identity: str,
        *,
        purpose: str | None,
        hides_paths: bool = False,
    ) -> None:
        super().__init__(home)
        self._connect_briefly = partial(connect, READ_PATIENCE_SECONDS)
        self._collection = connect(WRITE_PATIENCE_SECONDS if purpose else READ_PATIENCE_SECONDS)
        self._purpose, self._hides_paths = purpose, hides_paths
        self._session: Session | None = None
        self._leases: Leases | None = None
        self._told_all = True
        with self._errors():
            self._connection.executescript(_SCHEMA)
            joins = self._connection.execute("SELECT identity FROM shared").fetchone() is None
        if joins:
            self._join(identity)
        else:
            self._pull()

    def _join(self, identity: str) -> None:
        """Make a copy that was this machine's alone, or is new, one of what is shared."""
        own, jobs = {FileKey(*row[:3]) for row in self.rows()}, list(self.jobs())
        if (own or jobs) and not self._purpose:
            self._pull()
            return  # a reader tells nothing: the next writer does
        with self._errors():
            told = {job for (job,) in self._connection.execute("SELECT job FROM sessions WHERE job IS NOT NULL")}
        # A row that was made again from points of an earlier version knows less than the one that is here.
        self._pull(own.discard, unless=lambda row: row[3] < 0 and FileKey(*row[:3]) in own)
        self._tell(own)
        for job in jobs:
            if job.number not in told:
                self._tell_job(job)
        with self._errors(), self._connection:
            self._connection.execute("INSERT INTO shared VALUES (?)", (identity,))

    def put(self, records: Sequence[FileRecord]) -> None:
        """Insert or replace files, all or none of them here; then tell them."""
        super().put(records)
        self._tell([record.key for record in records])

    def mark_writing(self, keys: Iterable[FileKey]) -> None:
        """As of :class:`index.ledger.Ledger`; told."""
        every = list(keys)
        self._refresh(every)
        super().mark_writing(every)
        self._tell(every)

    def leave_out(self, points: Mapping[FileKey, Collection[UUID]], reason: str, detail: str) -> None:
        """As of :class:`index.ledger.Ledger`; told."""
        self._refresh(points)
        super().leave_out(points, reason, detail)
        self._tell(points)

    def drop_points(self, points: Mapping[FileKey, Collection[UUID]]) -> None:
        """As of :class:`index.ledger.Ledger`; told."""
        self._refresh(points)
        super().drop_points(points)
        self._tell(points)

    def forget(self, keys: Iterable[FileKey]) -> None:
        """Remove files from the ledger, everywhere."""
        every = list(keys)
        super().forget(every)
        self._tell(every, forgotten=True)

    def claim(self, roots: Mapping[int, str]) -> None:
        """Take the leases of roots, then learn what was done to them before.

        Raises:
            IndexLockedError: a process that lives works at one of them.
        """
        if self._leases is None:
            self._leases = Leases(self._connect_briefly, self._begin())
        self._leases.claim(roots)
        self._pull()

    def start_job(self, started: str, report: str = "") -> int:
        """Enter a job, here and for the others; return its number here."""
        number = super().start_job(started, report)
        self._session = replace(self._begin(), started=started, outcome="running", report=self._shown(report))
        with self._errors(), self._connection:  # first: another process here must not enter the job once more
            self._connection.execute(
                "INSERT OR REPLACE INTO sessions VALUES (?, ?, 0)", (str(self._session.id), number)
            )
        self._collection.put_session(self._session)
        return number

    def end_job(self, number: int, ended: str, outcome: str, report: str) -> None:
        """Enter a job's end; if the server is away, only here."""
        super().end_job(number, ended, outcome, report)
        self._session = replace(self._begin(), job_ended=ended, outcome=outcome, report=self._shown(report))
        self._tell_last(self._session)

    def _tell_job(self, job: JobRecord) -> None:
        """Share a job of the time when this copy was this machine's alone."""
        told = Session(
            uuid4(),
            "cbmir index",
            socket.gethostname(),
            os.getpid(),
            job.started,
            ended=True,
            started=job.started,
            job_ended=job.ended,
            outcome=job.outcome,
            report=self._shown(job.report or ""),
        )
        with self._errors(), self._connection:
            self._connection.execute("INSERT INTO sessions VALUES (?, ?, 1)", (str(told.id), job.number))
        self._collection.put_session(told)

    def close(self) -> None:
        """Give back the leases, end the session and close both."""
        try:
            if self._leases:
                self._leases.release()
            if self._session:
                told = self._tell_last(replace(self._session, ended=True))
                if told and self._told_all:
                    with self._errors(), self._connection:
                        values = (str(self._session.id),)
                        self._connection.execute("INSERT OR IGNORE INTO sessions VALUES (?, NULL, 0)", values)
                        self._connection.execute("UPDATE sessions SET known = 1 WHERE id = ?", values)
        finally:
            self._leases = self._session = None
            self._collection.close()
            super().close()

    def _tell_last(self, session: Session) -> bool:
        """What a job says at its end, perhaps as the server is away: nobody waits for it. Return whether it arrived."""
        try:
            self._collection.put_session(session, patience=LAST_WORD_SECONDS)
        except VectorIndexError as error:
            _log.warning("%s", error)
            return False
        return True

    def _begin(self) -> Session:
        """This process's session, entered when it first writes."""
        if self._session is None:
            if self._purpose is None:
                raise VectorIndexError(f"the ledger {self._collection.name} was opened to be read")
            now = datetime.now(UTC).isoformat(timespec="seconds")
            self._session = Session(uuid4(), self._purpose, socket.gethostname(), os.getpid(), now)
            self._collection.put_session(self._session)
        return self._session

    def _refresh(self, keys: Collection[FileKey]) -> None:
        """Learn what is shared of files in roots of which this session has no lease: another machine may be at them."""
        strange = [key for key in keys if not (self._leases and self._leases.holds(key.root))]
        for start in range(0, len(strange), _BATCH):
            self._take(self._collection.find_files(strange[start : start + _BATCH]))

    def _tell(self, keys: Collection[FileKey], *, forgotten: bool = False) -> None:
        """Share what this machine's copy has of these files now; of absent ones, if so, that they are forgotten."""
        if not keys:
            return
        self._told_all = False
        session = self._begin()
        if self._leases:
            self._leases.check()
        every = list(keys)
        for start in range(0, len(every), _BATCH):
            asked = every[start : start + _BATCH]
            rows = list(self.rows(asked))
            # What a library says of a broken file may quote it.
            shown = ((*row[:9], None) for row in rows) if self._hides_paths else rows
            self._collection.put_files(shown, session.id)
            if forgotten:
                gone = set(asked) - {FileKey(*row[:3]) for row in rows}
                self._collection.forget_files(gone, session.id)
        self._told_all = True

    def _pull(
        self, came: Callable[[FileKey], object] = lambda _: None, unless: Callable[[Row], bool] = lambda _: False
    ) -> None:
        """Bring the copy up to what is shared, but for some rows, and tell of each file that came."""
        with self._errors():
            whole = {one for (one,) in self._connection.execute("SELECT id FROM sessions WHERE known = 1")}
        if self._session:
            whole.add(str(self._session.id))
        sessions = [session for session in self._collection.sessions() if str(session.id) not in whole]
        if not sessions:
            return
        for page in self._collection.files([session.id for session in sessions]):
            wanted = [row for row in page if not unless(row)]
            self._take(wanted)
            for row in wanted:
                came(FileKey(*row[:3]))
        for session in sorted(sessions, key=lambda one: one.since):
            self._take_session(session)

    def _take(self, rows: Sequence[Row]) -> None:
        self.put_rows(row for row in rows if row[5] != FORGOTTEN)
        super().forget([FileKey(*row[:3]) for row in rows if row[5] == FORGOTTEN])

    def _take_session(self, session: Session) -> None:
        """Enter a session, and the job that it was."""
        query = "SELECT job FROM sessions WHERE id = ?"
        with self._errors():
            row = self._connection.execute(query, (str(session.id),)).fetchone()
        number: int | None = row[0] if row else None
        if session.started and number is None:
            number = super().start_job(session.started, session.report or "")
        ended = session.job_ended or (session.since if session.ended else None)
        if number is not None and ended:
            outcome = (session.outcome or "") if session.job_ended else "killed"
            super().end_job(number, ended, outcome, session.report or "")
        with self._errors(), self._connection:
            values = (str(session.id), number, session.ended)
            self._connection.execute("INSERT OR REPLACE INTO sessions VALUES (?, ?, ?)", values)

    def _shown(self, report: str) -> str | None:
        if not report or not self._hides_paths:
            return report or None
        return json.dumps({key: value for key, value in json.loads(report).items() if key != "error"})
