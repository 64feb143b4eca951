"""The report of a comparison of models: ``index.html``, ``report.md`` and ``report.json``."""

from __future__ import annotations

from pathlib import Path

from cli.rendering.report.templates import write_pages
from index.evaluation.comparison import Comparison


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
    write_pages(folder, "comparison", about, comparison.rows)
