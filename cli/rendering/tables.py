"""Results as tables for the terminal."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import TYPE_CHECKING

from rich.markup import escape
from rich.table import Table

from cli.console import Terminal, printable
from cli.rendering.columns import Column, Row, print_paths
from index.answers.viewer import viewer_address
from index.answers.words import is_wrong, organ_text, probability_text, score_text, stored_address
from index.query import SHOWN_DIGITS
from index.search import Answer
from model.images.sources import is_local
from model.training.measures import ClassificationMeasures

if TYPE_CHECKING:
    from index.evaluation.by_series import SeriesComparison
    from index.evaluation.comparison import Comparison
    from index.evaluation.retrieval import RetrievalResult
    from model.training.cross_validation import Fold


def shown_address(address: str) -> str:
    """An address as a person can type it here: relative to the working directory if it lies below that."""
    try:
        here = os.getcwd()  # noqa: PTH109 (of an address as text)
    except FileNotFoundError:
        return address
    return address.removeprefix(f"{here.rstrip('/')}/") if is_local(address) else address


def print_answer(answer: Answer, roots: tuple[str, ...], console: Terminal, viewer_url: str = "") -> None:
    """One answer: its title, and a row a hit, wrong-class hits in red; the id is what ``--like`` takes."""
    console.print(answer_title(answer), soft_wrap=True)
    hits = answer.hits
    labelled = any(hit.payload.label for hit in hits)
    framed = any(hit.payload.frame > 1 for hit in hits)
    copied = any(len(hit.payload.locations) > 1 for hit in hits)
    classed = any(hit.payload.organ for hit in hits)
    columns = [Column("rank", right=True), Column(answer.measure, right=True)]
    columns += [Column("organ"), Column("prob.", right=True)] * classed
    columns += [Column("modality"), *[Column("label")] * labelled, *[Column("frame", right=True)] * framed]
    columns += [*[Column("copies", right=True)] * copied, Column("id")]
    rows = []
    for rank, hit in enumerate(hits, 1):
        payload = hit.payload
        cells = [str(rank), score_text(answer, hit)]
        cells += [organ_text(payload), probability_text(payload)] * classed
        cells += [payload.header.modality or "–", *[payload.label or "–"] * labelled, *[str(payload.frame)] * framed]
        cells += [*[str(len(payload.locations) - 1)] * copied]
        cells += [hit.id.hex[:SHOWN_DIGITS] if console.is_terminal else str(hit.id)]
        path = shown_address(stored_address(roots, payload.locations[0]))
        link = viewer_address(viewer_url, hit)
        rows.append(Row(cells, path, "red" if is_wrong(answer, hit) else "", link))
    print_paths(console, columns, rows)


def answer_title(answer: Answer) -> str:
    """The query, its predicted class with the probability, and where was searched, as rich markup."""
    query = answer.query
    frame = f" (frame {query.frame}{f' of {query.of}' if query.of else ''})" if query.of != 1 else ""
    label = f", labelled {query.label}" if query.label else ""
    predicted = f"predicted [bold]{escape(organ_text(query))}[/] ({probability_text(query)})"
    if query.organ is None:
        predicted = "no class predicted, as the model tells none apart"
    by = f", by the ranks in {' and '.join(answer.layers)}" if len(answer.layers) > 1 else ""
    searched = f"{label}; searched in {answer.searched}{by}"
    return f"[bold]{escape(printable(query.name))}[/]{frame}\n{predicted}{escape(searched)}"


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
    from model.training.cross_validation import summary  # brings torch, which a search may do without

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


def series_comparison_tables(found: SeriesComparison) -> Iterator[Table]:
    """What each rule of pooling retrieves, a table a layer, a row a rule."""
    for (model, layer), rows in groupby(found.rows, lambda row: (row.model, row.layer)):
        title = f"{model}, {layer}: {found.queries:,} series among all {found.series:,} but those of their groups"
        table = Table(title=escape(title), title_justify="left", box=None, pad_edge=False)
        table.add_column("pooling", no_wrap=True)
        for name in ("P@1", "P@3", "P@5", "P@10", "mAP", "R@10", "mAP gained, 95 %"):
            table.add_column(name, justify="right", no_wrap=True)
        for row in rows:
            gain = f"{row.gain.low:+.3f} to {row.gain.high:+.3f}" if row.gain else "–"
            values = (*row.precision.values(), row.mean_average_precision, row.recall)
            table.add_row(row.pooling, *(f"{value:.3f}" for value in values), gain)
        yield table


def comparison_table(found: Comparison) -> Table:
    """What each layer of each model retrieves, a row a layer."""
    title = f"{found.queries:,} test images among all {found.images:,} but those of their groups"
    table = Table(title=title, title_justify="left", box=None, pad_edge=False)
    for name in ("model", "layer"):
        table.add_column(name, overflow="fold")
    for name in ("values", "P@1", "95 %", "P@5", "mAP", "images/s"):
        table.add_column(name, justify="right", no_wrap=True)
    for row in found.rows:
        table.add_row(
            escape(row.model),
            row.layer,
            f"{row.values:,}",
            f"{row.precision[1]:.3f}",
            f"{row.interval.low:.3f}–{row.interval.high:.3f}" if row.interval else "–",
            f"{row.precision[5]:.3f}",
            f"{row.mean_average_precision:.3f}",
            f"{row.images_per_second:,.0f}" if row.images_per_second else "–",
        )
    return table
