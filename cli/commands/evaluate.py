"""``cbmir evaluate``: how well a model tells classes apart, and how well its features retrieve."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from cli.console import EXIT_LEFT_OUT, messages, output
from cli.options import (
    ForceOption,
    ModelOption,
    OpenOption,
    ReportFolderOption,
    RuntimeOption,
    complete_layer,
    option,
    parse_layers,
    refuse_existing,
)
from cli.pages import open_page

if TYPE_CHECKING:
    from cli.rendering.progress import StageProgress
    from index.evaluation.run import EvaluationObserver

Protocol = Literal["both", "training-images", "leave-group-out"]
Search = Literal["both", "exact", "approximate"]


def evaluate(
    repository: Annotated[
        Path, typer.Argument(help="One folder a class, or a CSV or Parquet manifest with path,label[,split,group].")
    ],
    model: ModelOption = None,
    report: ReportFolderOption = Path("report"),
    force: ForceOption = False,
    open_: OpenOption = False,
    layers: Annotated[
        str,
        option("--layers", help="Whose features to compare.", metavar="fcl1,fcl2,fcl3", autocompletion=complete_layer),
    ] = "fcl1,fcl2,fcl3",
    protocol: Annotated[
        Protocol, option("--protocol", help="Search among the training images; or among all but the query's group.")
    ] = "both",
    search: Annotated[Search, option("--search", help="With every vector compared, or through the graph.")] = "both",
    seed: Annotated[
        int | None, option("--seed", help="Of the split, where the repository names none [the model's].")
    ] = None,
    runtime: RuntimeOption = "torch",
    device: Annotated[str, option("--device", help="Torch device.")] = "cpu",
    workers: Annotated[int | None, option("--workers", help="Processes that decode; by default one a core.")] = None,
) -> None:
    """Measure a model on the held-out images of a labelled repository: classification and retrieval.

    The report holds every table and figure of the paper beside this model's, every misclassified image, and ranked
    sheets. A repository without splits is split as in training.
    """
    import os

    from rich.markup import escape

    from model.network.bundled import find_model
    from model.network.metadata import read_metadata
    from model.training.repository import read_repository, split_test

    names = parse_layers(layers)
    refuse_existing(report / "index.html", "--report", force=force)
    path = find_model(model)
    metadata = read_metadata(path)
    files = split_test(read_repository(repository), seed=metadata.seed if seed is None else seed)

    from cli.rendering.columns import print_left_out
    from cli.rendering.environment import environment
    from cli.rendering.progress import StageProgress
    from cli.rendering.report.page import make_folder, write_report
    from cli.rendering.tables import measures_table, retrieval_tables
    from index.evaluation.run import PROTOCOLS, EvaluationSettings, evaluate_model
    from model.network.embedder import Embedder

    settings = EvaluationSettings(
        layers=names,
        protocols=tuple(name for name in PROTOCOLS if protocol in {"both", name.replace(" ", "-")}),
        searches=tuple(exact for exact in (True, False) if search in {"both", "exact" if exact else "approximate"}),
        workers=os.cpu_count() or 1 if workers is None else workers,
    )
    make_folder(report)
    with StageProgress() as progress:
        found = evaluate_model(
            Embedder.load(path, device=device, runtime=runtime), files, settings, _observer(progress)
        )
    write_report(found, report, repository=str(repository), environment=environment())
    output.show_table(measures_table(found.classification.measures))
    accuracy, interval = found.classification.measures.accuracy, found.classification.intervals["accuracy"]
    span = f" (95 % interval {interval.low:.2%} – {interval.high:.2%})" if interval else ""
    output.print(f"accuracy {accuracy:.2%}{span} on {len(found.predictions):,} test images")
    for table in retrieval_tables(found.retrieval):
        output.show_table(table)
    for note in found.notes:
        messages.print_prose(f"[yellow]note:[/] {escape(note)}")
    for error in found.left_out:
        print_left_out(error.path, f"{error.reason.value}: {error.detail}")
    output.print(f"report: {report / 'index.html'}", soft_wrap=True, markup=False)
    if open_:
        open_page(report / "index.html")
    if found.left_out:
        raise typer.Exit(EXIT_LEFT_OUT)


def _observer(progress: StageProgress) -> EvaluationObserver:
    from index.evaluation.retrieval import RetrievalSetting
    from index.evaluation.run import EvaluationObserver

    class EvaluationProgress(EvaluationObserver):
        def loaded(self, done: int, total: int) -> None:
            progress.update("decoding", done, total)

        def embedded(self, done: int, total: int) -> None:
            progress.update("embedding", done, total)

        def ranked(self, setting: RetrievalSetting, done: int, total: int) -> None:
            within = "with" if setting.with_class_prediction else "without"
            search = "exact" if setting.exact else "approximate"
            note = f"{setting.protocol}, {setting.layer.upper()}, {within} class prediction, {search}"
            progress.update("searching", done, total, note)

    return EvaluationProgress()
