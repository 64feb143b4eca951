"""A job's events as one JSON object a line on standard error, for log collectors."""

from __future__ import annotations

import json
import logging
import sys
import time
from typing import Any

from pythonjsonlogger.json import JsonFormatter

from workers.indexing.report import FileLeftOut, JobReport
from workers.indexing.settings import JobObserver, Progress

PROGRESS_SECONDS = 10.0
"""Time between two lines of progress."""


class _StandardError(logging.Handler):
    """Writes to whatever is standard error at that moment: it is moved while Ray runs."""

    def emit(self, record: logging.LogRecord) -> None:
        print(self.format(record), file=sys.stderr, flush=True)


def json_logger() -> logging.Logger:
    """The logger ``cbmir``, which writes JSON with ``time`` (UTC), ``level``, ``event`` and the event's own fields."""
    logger = logging.getLogger("cbmir")
    if not logger.handlers:
        formatter = JsonFormatter(
            "{asctime}{levelname}{message}",
            style="{",
            datefmt="%Y-%m-%dT%H:%M:%SZ",
            rename_fields={"asctime": "time", "levelname": "level", "message": "event"},
            json_ensure_ascii=False,
        )
        formatter.converter = time.gmtime
        handler = _StandardError()
        handler.setFormatter(formatter)
        logger.addHandler(handler)
        logger.setLevel(logging.INFO)
        logger.propagate = False
    return logger


class JsonLog(JobObserver):
    """Logs each stage's begin, progress every ten seconds, every file left out, and the report without these files."""

    def __init__(self) -> None:
        self._logger = json_logger()
        self._stage, self._logged = "", 0.0

    def progress(self, progress: Progress) -> None:
        """Log a new stage, or that time has passed."""
        if progress.stage == self._stage and time.monotonic() - self._logged < PROGRESS_SECONDS:
            return
        self._stage, self._logged = progress.stage, time.monotonic()
        fields: dict[str, Any] = {"files_pending": progress.plan.pending, "files_unchanged": progress.plan.unchanged}
        if progress.stages:
            fields |= {
                "images_decoded": progress.stages.decoded_frames,
                "images_embedded": progress.stages.embedded_frames,
            }
        if progress.sink:
            fields |= {"files_indexed": progress.sink.files, "points": progress.sink.points}
        self._logger.info(progress.stage, extra=fields | {"files_left_out": progress.left_out})

    def left_out(self, file: FileLeftOut) -> None:
        """Log the file, or its frames, and the reason."""
        fields = {"path": file.path, "reason": file.reason, "detail": file.detail}
        self._logger.warning("left out", extra=fields | ({"frames": file.frames} if file.frames else {}))

    def stalled(self, seconds: float, nodes: str) -> None:
        """Log that nothing moves."""
        self._logger.warning("stalled", extra={"seconds": round(seconds), "nodes": nodes})

    def worker_lost(self, files: int, why: str) -> None:
        """Log what is done again."""
        self._logger.warning("worker lost", extra={"files_again": files, "why": why})

    def ended(self, report: JobReport) -> None:
        """Log the report."""
        self._logger.info("report", extra=json.loads(report.to_json(files=False)))
