"""Who asked what: a line of JSON an answer, for whoever must be able to tell later."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path

from model.errors import CbmirError


class AuditLog:
    """A file to which a line is added for each answer; nothing in it names a patient.

    A line has the time, who asked, the index, the query's point id (of a whole series its UID), and those of the hits,
    best first. Names of files are not in it, as they may hold a patient's.

    Args:
        file: made if it is not there, readable to its owner only; added to if it is.

    Raises:
        CbmirError: it cannot be written.
    """

    def __init__(self, file: Path) -> None:
        self._file, self._lock = file, threading.Lock()
        try:
            file.touch(mode=0o600)
        except OSError as error:
            raise self._cannot(error) from error

    def write(self, who: str, index: str, query: str, hits: Iterable[str]) -> None:
        """Add the line of an answer.

        Args:
            who: asked.
            index: that was asked.
            query: its point's id, or the UID of a series.
            hits: ids of points, or UIDs of series, best first.

        Raises:
            CbmirError: it cannot be written; then the answer must not be shown.
        """
        line = {
            "time": datetime.now(UTC).isoformat(timespec="milliseconds"),
            "who": who,
            "index": index,
            "query": query,
            "hits": list(hits),
        }
        try:
            with self._lock, self._file.open("a", encoding="utf-8") as file:
                file.write(json.dumps(line, ensure_ascii=False) + "\n")
        except OSError as error:
            raise self._cannot(error) from error

    def _cannot(self, error: OSError) -> CbmirError:
        return CbmirError(f"the audit log {self._file} cannot be written: {error.strerror or error}")
