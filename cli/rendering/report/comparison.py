"""The report of a comparison of models: ``index.html``, ``report.md`` and ``report.json``."""

from __future__ import annotations

import json
from pathlib import Path

from cli.rendering.report.templates import render
from index.evaluation.comparison import Comparison
from model.errors import CbmirError


def write_comparison(comparison: Comparison, folder: Path, *, repository: str, environment: str) -> None:
    """Write every file of the report.

    Raises:
        CbmirError: the folder cannot be written.
    """
    about = {
        "repository": repository,
        "environment": environment,
        "queries": comparison.queries,
        "images": comparison.images,
        "left_out": [str(error) for error in comparison.left_out],
    }
    record = {**about, "rows": [row.to_json() for row in comparison.rows]}
    try:
        page = render("comparison.html.j2", **about, rows=comparison.rows)
        (folder / "index.html").write_text(page, encoding="utf-8")
        twin = render("comparison.md.j2", **about, rows=comparison.rows)
        (folder / "report.md").write_text(twin, encoding="utf-8")
        (folder / "report.json").write_text(json.dumps(record, indent=1))
    except OSError as error:
        raise CbmirError(f"the report cannot be written to {folder}: {error.strerror or error}") from error
