"""Results as tables for the terminal."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import TYPE_CHECKING

from rich.markup import escape
from rich.table import Table

from index.interface import Hit
from index.query import Query
from index.schema import Location, Payload
from index.search import Answer
from model.calibration import UNKNOWN
from model.measures import ClassificationMeasures
from model.sources import is_local, join

if TYPE_CHECKING:
    from index.evaluation import RetrievalResult
    from model.cross_validation import Fold


def stored_address(roots: tuple[str, ...], location: Location) -> str:
    """Where a stored file lies, or lay when it was indexed: a path, or an address."""
    return join(roots[location.root], location.path)


def common_folder(roots: tuple[str, ...]) -> str:
    """The folder below which paths are shown: the archive, or what holds all of several; empty if nothing does."""
    if len(roots) == 1:
        return roots[0]
    return os.path.commonpath(roots) if all(map(is_local, roots)) else ""


def _below_common(roots: tuple[str, ...], location: Location) -> str:
    if len(roots) == 1:
        return location.path or roots[0]
    address, common = stored_address(roots, location), common_folder(roots)
    return os.path.relpath(address, common) if common else address


def is_wrong(answer: Answer, hit: Hit) -> bool:
    """Whether the true classes of query and hit are both known, and differ."""
    return None not in (answer.query.label, hit.payload.label) and answer.query.label != hit.payload.label


def organ_text(of: Query | Payload) -> str:
    """The organ, or that it is unknown and what it resembles most."""
    return f"{UNKNOWN} ({of.best_guess}?)" if of.organ == UNKNOWN else of.organ


def answer_table(answer: Answer, roots: tuple[str, ...]) -> Table:
    """One answer: a row a hit, wrong-class hits in red."""
    labelled = any(hit.payload.label for hit in answer.hits)
    table = Table(box=None, pad_edge=False)
    table.add_column("rank", justify="right")
    table.add_column("distance", justify="right", no_wrap=True)
    table.add_column("organ", no_wrap=True)
    table.add_column("prob.", justify="right")
    table.add_column("modality", no_wrap=True)
    if labelled:
        table.add_column("label", no_wrap=True)
    table.add_column("path", overflow="fold")
    for rank, hit in enumerate(answer.hits, 1):
        payload = hit.payload
        path = _below_common(roots, payload.locations[0])
        frame = f" (frame {payload.frame})" if payload.frame > 1 else ""
        copies = f" (+{len(payload.locations) - 1} copies)" if len(payload.locations) > 1 else ""
        table.add_row(
            str(rank),
            f"{hit.distance:.3f}",
            escape(organ_text(payload)),
            f"{payload.organ_probability:.1%}",
            escape(payload.header.modality or "–"),
            *([escape(payload.label or "–")] if labelled else []),
            escape(f"{path}{frame}{copies}"),
            style="red" if is_wrong(answer, hit) else None,
        )
    return table


def answer_title(answer: Answer, roots: tuple[str, ...]) -> str:
    """The query, its predicted class with the probability, and where was searched, as rich markup."""
    query = answer.query
    frame = f" (frame {query.frame}{f' of {query.of}' if query.of else ''})" if query.of != 1 else ""
    where = f"class {', '.join(answer.organs)}" if answer.organs else "the whole index"
    label = f", labelled {query.label}" if query.label else ""
    below = f"; paths below {common_folder(roots)}" if len(roots) > 1 and common_folder(roots) else ""
    return (
        f"[bold]{escape(query.name)}[/]{frame}\npredicted [bold]{escape(organ_text(query))}[/] "
        f"({query.organ_probability:.1%}){escape(label)}; searched in {escape(where + below)}"
    )


def measures_table(measures: ClassificationMeasures) -> Table:
    """Per-class results of a test part, the means below."""
    table = Table(title="test part", title_justify="left", box=None, pad_edge=False, show_footer=True)
    table.add_column("class", footer="mean (AP, AR, F1)")
    table.add_column("precision", f"{measures.average_precision:.2%}", justify="right")
    table.add_column("recall", f"{measures.average_recall:.2%}", justify="right")
    table.add_column("F1", f"{measures.f1:.2%}", justify="right")
    table.add_column("images", f"{sum(c.images for c in measures.classes):,}", justify="right")
    for one in measures.classes:
        shares = ("–" if share is None else f"{share:.2%}" for share in (one.precision, one.recall, one.f1))
        table.add_row(escape(one.name), *shares, f"{one.images:,}")
    return table


def folds_table(folds: Sequence[Fold]) -> Table:
    """Measures of each fold, with mean and standard deviation below."""
    from model.cross_validation import summary  # brings torch, which a search may do without

    means = summary(folds)
    table = Table(title="cross-validation", title_justify="left", box=None, pad_edge=False, show_footer=True)
    table.add_column("fold", footer="mean ± sd", no_wrap=True)
    for title, name in (("accuracy", "accuracy"), ("AP", "average_precision"), ("AR", "average_recall"), ("F1", "f1")):
        mean, spread = means[name]
        table.add_column(title, f"{mean:.2%} ± {spread:.2%}", justify="right", no_wrap=True)
    for fold in folds:
        one = fold.measures
        shares = (one.accuracy, one.average_precision, one.average_recall, one.f1)
        table.add_row(str(fold.number), *(f"{share:.2%}" for share in shares))
    return table


def retrieval_tables(results: Sequence[RetrievalResult]) -> Iterator[Table]:
    """Mean average precision and precision at ranks, a table a database, a row a way to search."""
    for protocol, of_protocol in groupby(results, lambda one: one.setting.protocol):
        database = "the training images" if protocol == "training images" else "all images but the query's group"
        title = f"retrieval from {database}"
        table = Table(title=title, title_justify="left", box=None, pad_edge=False)
        for name in ("features", "class prediction", "search"):
            table.add_column(name, no_wrap=True)
        for name in ("mAP", "P@1", "P@10", "R@10", "ms"):
            table.add_column(name, justify="right", no_wrap=True)
        for one in of_protocol:
            table.add_row(
                one.setting.layer.upper(),
                "with" if one.setting.with_class_prediction else "without",
                "exact" if one.setting.exact else "approximate",
                f"{one.mean_average_precision:.3f}",
                *(f"{value:.3f}" for value in (one.precision[1], one.precision[10], one.recall[10])),
                f"{1000 * one.seconds / max(len(one.rankings), 1):.1f}",
            )
        yield table


def fields_table(fields: dict[str, str]) -> Table:
    """Names and values in two columns."""
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in fields.items():
        table.add_row(name, escape(value))
    return table
