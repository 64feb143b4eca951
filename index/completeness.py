"""What of the archives is not in the index yet, as the job ledger knows it."""

from __future__ import annotations

import json
from collections.abc import Collection
from typing import Any

from index.ledger import JobRecord, Ledger
from index.roots import below


def unfinished_archives(ledger: Ledger, roots: Collection[str], *, held: bool | None) -> dict[str, str]:
    """Archives whose last job did not come to its end, each with how far it came.

    Args:
        ledger: of the index.
        roots: the index's roots now; an archive that overlaps none of them was forgotten or moved, and is not named.
        held: whether another process is running a job; if not, a job recorded as running was killed. ``None`` of a
            server's index, at which processes of other machines may be at work.
    """
    seen: set[str] = set()
    unfinished = {}
    for job in ledger.jobs():
        report: dict[str, Any] = json.loads(job.report) if job.report else {}
        for archive in report.get("archives", ()):
            if archive in seen:
                continue
            seen.add(archive)
            concerned = any(below(root, archive) is not None or below(archive, root) is not None for root in roots)
            if concerned and (why := _why(job, report, held=held)):
                unfinished[archive] = why
    return unfinished


def _why(job: JobRecord, report: dict[str, Any], *, held: bool | None) -> str | None:
    missing, whole = report.get("files_missing"), report.get("walk_finished", True)
    if job.outcome == "running":
        if held is None:
            return "a job is at work, or was killed: run the same command again"
        return "a job is at work" if held else "its job was killed: run the same command again"
    if job.outcome == "complete" and whole and not missing:
        return None
    parts = [f"{missing:,} files still to do"] if missing else []
    if not whole:
        parts.append("and those that were not looked for yet" if parts else "not all files were looked for yet")
    if job.outcome == "complete":
        return ", ".join(parts)
    return ", ".join([job.outcome, *parts])
