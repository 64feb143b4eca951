"""The report of a comparison by series: ``index.html``, ``report.md`` and ``report.json``."""

from __future__ import annotations

import json
from itertools import groupby
from pathlib import Path

from cli.rendering.report.templates import render
from index.evaluation.by_series import RANKS, SeriesComparison
from model.errors import CbmirError


def write_series_comparison(
    comparison: SeriesComparison, folder: Path, *, repository: str, slices: int, environment: str
) -> None:
    """Write every file of the report.

    Args:
        comparison: what to report.
        folder: made before.
        repository: what was evaluated, as the user named it.
        slices: of a query that were compared, at most.
        environment: versions and cores, in one line.

    Raises:
        CbmirError: the folder cannot be written.
    """
    about = {
        "repository": repository,
        "environment": environment,
        "queries": comparison.queries,
        "series": comparison.series,
        "slices": slices,
        "left_out": [str(error) for error in comparison.left_out],
    }
    by_layer = groupby(comparison.rows, lambda row: (row.model, row.layer))
    tables = [(layer, list(rows)) for layer, rows in by_layer]
    record = {**about, "rows": [row.to_json() for row in comparison.rows]}
    try:
        page = render("series.html.j2", **about, ranks=RANKS, tables=tables)
        (folder / "index.html").write_text(page, encoding="utf-8")
        twin = render("series.md.j2", **about, ranks=RANKS, tables=tables)
        (folder / "report.md").write_text(twin, encoding="utf-8")
        (folder / "report.json").write_text(json.dumps(record, indent=1))
    except OSError as error:
        raise CbmirError(f"the report cannot be written to {folder}: {error.strerror or error}") from error
