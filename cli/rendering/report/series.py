"""The report of a comparison by series: ``index.html``, ``report.md`` and ``report.json``."""

from __future__ import annotations

from itertools import groupby
from pathlib import Path

from cli.rendering.report.templates import write_pages
from index.evaluation.by_series import RANKS, SeriesComparison


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
    write_pages(folder, "series", about, comparison.rows, ranks=RANKS, tables=tables)
