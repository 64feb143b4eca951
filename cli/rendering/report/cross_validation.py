"""The report of a cross-validation: ``index.html``, ``report.md`` and ``report.json``."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from cli.rendering.report.templates import render
from model.errors import CbmirError
from model.training.cross_validation import Fold, all_left_out, pooled_confusion, summary
from model.training.recipes import Recipe


def write_cross_validation(
    folds: Sequence[Fold], folder: Path, *, repository: str, recipe: Recipe, environment: str
) -> None:
    """Write every file of the report.

    Raises:
        CbmirError: the folder cannot be written.
    """
    confusion = pooled_confusion(folds)
    means = summary(folds)
    values = {
        "folds": folds,
        "summary": means,
        "classes": [one.name for one in folds[0].measures.classes],
        "confusion": confusion,
        "most": max(max(row) for row in confusion) or 1,
        "left_out": all_left_out(folds),
        "repository": repository,
        "recipe": recipe,
        "environment": environment,
    }
    record = {
        "repository": repository,
        "environment": environment,
        "recipe": asdict(recipe),
        "summary": {name: {"mean": mean, "standard_deviation": spread} for name, (mean, spread) in means.items()},
        "folds": [fold.measures.to_json() for fold in folds],
        "confusion": confusion,
        "left_out": all_left_out(folds),
    }
    try:
        (folder / "index.html").write_text(render("cross-validation.html.j2", **values), encoding="utf-8")
        (folder / "report.md").write_text(render("cross-validation.md.j2", **values), encoding="utf-8")
        (folder / "report.json").write_text(json.dumps(record, indent=1))
    except OSError as error:
        raise CbmirError(f"the report cannot be written to {folder}: {error.strerror or error}") from error
