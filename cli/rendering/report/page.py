"""The report of an evaluation: ``index.html``, ``report.md``, ``report.json`` and ``precision-recall.csv``."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from cli.rendering.report import figures, paper
from cli.rendering.report.pictures import misclassified, ranked_sheets
from cli.rendering.report.templates import interval, percent, render
from index.evaluation.retrieval import RetrievalResult
from index.evaluation.run import Evaluation
from model.errors import CbmirError


def write_report(evaluation: Evaluation, folder: Path, *, repository: str, environment: str) -> None:
    """Write every file of the report; those of an earlier one are replaced.

    Args:
        evaluation: what to report.
        folder: made if it does not exist.
        repository: what was evaluated, as the user named it.
        environment: versions and cores, in one line.

    Raises:
        CbmirError: the folder cannot be written.
    """
    values = _values(evaluation, repository, environment)
    plots = _plots(evaluation)
    pictures = {
        "misclassified": misclassified(evaluation),
        "sheets": _sheets(evaluation),
        "sheet_layer": evaluation.retrieval[0].setting.layer,
    }
    try:
        for name, svg in plots.items():
            (folder / f"{name}.svg").write_text(svg)
        page = render("evaluation.html.j2", **values, plots=plots, **pictures)
        (folder / "index.html").write_text(page, encoding="utf-8")
        twin = render("evaluation.md.j2", **values, plots=plots, misclassified=pictures["misclassified"])
        (folder / "report.md").write_text(twin, encoding="utf-8")
        (folder / "report.json").write_text(json.dumps(to_json(evaluation, repository, environment), indent=1))
        (folder / "precision-recall.csv").write_text(_curves_csv(evaluation.retrieval))
    except OSError as error:
        raise CbmirError(f"the report cannot be written to {folder}: {error.strerror or error}") from error


def make_folder(folder: Path) -> None:
    """Make the report's folder, before the work that fills it.

    Raises:
        CbmirError: it cannot be made, or not be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "report.json").touch()
    except OSError as error:
        raise CbmirError(f"the report cannot be written to {folder}: {error.strerror or error}") from error


def to_json(evaluation: Evaluation, repository: str, environment: str) -> dict[str, Any]:
    """All figures as plain values; the curves by rank are in the CSV."""
    result = evaluation.classification
    return {
        "repository": repository,
        "environment": environment,
        "model": {"fingerprint": evaluation.metadata.fingerprint, "recipe": dict(evaluation.metadata.recipe)},
        "images": {"training": evaluation.training, "test": len(evaluation.predictions)},
        "classes": evaluation.metadata.classes,
        "classification": asdict(result),
        "retrieval": [
            {
                **asdict(one.setting),
                "queries": one.queries,
                "mean_average_precision": one.mean_average_precision,
                "interval": asdict(one.interval) if one.interval else None,
                "precision": one.precision,
                "recall": one.recall,
                "mean_reciprocal_rank": one.mean_reciprocal_rank,
                "interpolated_precision": one.curves.interpolated.tolist(),
                "seconds": one.seconds,
            }
            for one in evaluation.retrieval
        ],
        "notes": evaluation.notes,
        "left_out": [str(error) for error in evaluation.left_out],
    }


def _values(evaluation: Evaluation, repository: str, environment: str) -> dict[str, Any]:
    result, measures = evaluation.classification, evaluation.classification.measures
    _, peer_ap, peer_ar, peer_f1 = paper.CLASSIFICATION_PEER
    rows = [
        ("accuracy", "accuracy", measures.accuracy, paper.ACCURACY, None),
        ("AP", "average_precision", measures.average_precision, paper.AVERAGE_PRECISION, peer_ap),
        ("AR", "average_recall", measures.average_recall, paper.AVERAGE_RECALL, peer_ar),
        ("F1", "f1", measures.f1, paper.F1, peer_f1),
        ("expected calibration error", "calibration_error", result.calibration_error, None, None),
    ]
    return {
        "evaluation": evaluation,
        "repository": repository,
        "environment": environment,
        "measures": measures,
        "classification": [
            {
                "name": name,
                "value": percent(value),
                "interval": interval(result.intervals[key], percent),
                "paper": percent(of_paper),
                "peer": percent(peer),
            }
            for name, key, value, of_paper, peer in rows
        ],
        "protocols": {
            protocol: [one for one in evaluation.retrieval if one.setting.protocol == protocol]
            for protocol in dict.fromkeys(one.setting.protocol for one in evaluation.retrieval)
        },
        "most": max(max(row) for row in measures.confusion) or 1,
    }


def _plots(evaluation: Evaluation) -> dict[str, str]:
    """Plots by file name: of the first protocol's exact search, or of the only one that was asked for."""
    predictions = evaluation.predictions
    plots = {"calibration": figures.calibration(predictions.confidence, predictions.predicted == predictions.labels)}
    for within, name in ((False, "without"), (True, "with")):
        chosen = _main(evaluation.retrieval, within)
        title = f"{name} class prediction"
        plots[f"precision-recall-{name}-class-prediction"] = figures.precision_recall(chosen, title)
        plots[f"precision-by-rank-{name}-class-prediction"] = figures.precision_by_rank(chosen, title)
    return plots


def _sheets(evaluation: Evaluation) -> list[Any]:
    without, within = (_main(evaluation.retrieval, chosen) for chosen in (False, True))
    return ranked_sheets(evaluation, without[0], within[0])


def _main(results: Sequence[RetrievalResult], within: bool) -> list[RetrievalResult]:
    first = results[0].setting
    return [
        one
        for one in results
        if (one.setting.protocol, one.setting.exact) == (first.protocol, first.exact)
        and one.setting.with_class_prediction == within
    ]


def _curves_csv(results: Sequence[RetrievalResult]) -> str:
    lines = ["protocol,layer,with_class_prediction,search,rank,precision,recall"]
    for one in results:
        setting = one.setting
        search = "exact" if setting.exact else "approximate"
        start = f"{setting.protocol},{setting.layer},{setting.with_class_prediction},{search}"
        lines += [
            f"{start},{rank},{precision:.6f},{recall:.6f}"
            for rank, (precision, recall) in enumerate(zip(one.curves.precision, one.curves.recall, strict=True), 1)
        ]
    return "\n".join(lines) + "\n"
