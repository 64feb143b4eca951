"""``cbmir evaluate``: how well a model tells classes apart, and how well its features retrieve."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from cli.console import EXIT_LEFT_OUT, messages, output
from cli.options import (
    ForceOption,
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
    from model.network.embedder import Embedder
    from model.network.metadata import Metadata
    from model.network.probe import ProbeDescription
    from model.training.repository import LabelledFile

Protocol = Literal["both", "training-images", "leave-group-out"]
Search = Literal["both", "exact", "approximate"]


def evaluate(
    repository: Annotated[
        Path,
        typer.Argument(help="One folder a class, or a CSV or Parquet manifest with path,label[,split,group,series]."),
    ],
    models: Annotated[
        list[Path] | None,
        option(
            "--model",
            "-m",
            help="Model, or name of a bundled one; several are compared, as are encoders [the bundled one].",
            show_default=False,
        ),
    ] = None,
    report: ReportFolderOption = Path("report"),
    force: ForceOption = False,
    open_: OpenOption = False,
    layers: Annotated[
        str | None,
        option(
            "--layers",
            help="Layers to compare [the model's own without heads; of several models all].",
            metavar="fcl1,projected",
            autocompletion=complete_layer,
            show_default=False,
        ),
    ] = None,
    protocol: Annotated[
        Protocol, option("--protocol", help="What to search: the training images, or all but the query's group.")
    ] = "both",
    search: Annotated[Search, option("--search", help="Compare with every vector, or walk the graph.")] = "both",
    by: Annotated[
        Literal["picture", "series"],
        option("--by", help="series: of a manifest's column series, or files of several frames, by every pooling."),
    ] = "picture",
    slices: Annotated[int, option("--slices", help="With --by series: slices of a query to compare.", min=1)] = 16,
    seed: Annotated[
        int | None, option("--seed", help="Seed of the split, where the repository has none [the model's].")
    ] = None,
    runtime: RuntimeOption = "torch",
    device: Annotated[str, option("--device", help="Torch device.")] = "cpu",
    workers: Annotated[int | None, option("--workers", help="Processes that decode; by default one a core.")] = None,
) -> None:
    """Measure a model on the held-out images of a labelled repository: classification and retrieval.

    The report holds every table and figure of the paper beside this model's, every misclassified image, and ranked
    sheets. A repository without splits is split as in training.

    Several models, or an encoder without classes, are compared by how well each of their layers retrieves the labels:
    each test image is searched for among all images but those of its group.
    """
    import os

    from rich.markup import escape

    from model.errors import SettingError
    from model.network.bundled import find_model
    from model.network.embedder import Embedder
    from model.network.heads import default_layers
    from model.network.metadata import read_metadata
    from model.network.probe import describe_probe
    from model.training.repository import read_repository, split_test

    refuse_existing(report / "index.html", "--report", force=force)
    if by == "series" and (protocol != "both" or search != "both"):
        raise SettingError("--by series has one way to search: leave --protocol and --search out")
    named = parse_layers(layers) if layers else ()
    paths = [find_model(model, named) for model in models] if models else [find_model(layers=named)]
    metadata = read_metadata(paths[0])
    files = split_test(read_repository(repository), seed=metadata.seed if seed is None else seed)
    workers = os.cpu_count() or 1 if workers is None else workers
    if by == "series":
        loaded = _loaded(paths, device, runtime)
        _compare_series(loaded, files, report, named, slices, repository=str(repository), workers=workers, open_=open_)
        return
    if len(paths) > 1 or not (metadata.classes or describe_probe(paths[0])):
        loaded = _loaded(paths, device, runtime)
        _compare(loaded, files, report, named, repository=str(repository), workers=workers, open_=open_)
        return
    path = paths[0]
    files = _in_words_of(describe_probe(path) or metadata, files)
    names = named or (default_layers(path) if metadata.members else tuple(metadata.layers))

    from cli.rendering.columns import print_left_out
    from cli.rendering.environment import environment
    from cli.rendering.progress import StageProgress
    from cli.rendering.report.page import make_folder, write_report
    from cli.rendering.tables import measures_table, retrieval_tables
    from index.evaluation.run import PROTOCOLS, EvaluationSettings, evaluate_model

    settings = EvaluationSettings(
        layers=names,
        protocols=tuple(name for name in PROTOCOLS if protocol in {"both", name.replace(" ", "-")}),
        searches=tuple(exact for exact in (True, False) if search in {"both", "exact" if exact else "approximate"}),
        workers=workers,
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


def _in_words_of(model: ProbeDescription | Metadata, files: list[LabelledFile]) -> list[LabelledFile]:
    """The files with the classes of the model as their labels, where those are called otherwise; that is told."""
    from model.dataset.combining import in_words_of

    called = in_words_of(model.classes, {file.label for file in files})
    if called:
        said = ", ".join(f"{label} as {name}" for label, name in called.items())
        messages.print_prose(f"[yellow]note:[/] labels are read in the model's words: {said}")
    return [replace(file, label=called.get(file.label, file.label)) for file in files]


def _loaded(paths: list[Path], device: str, runtime: str) -> list[tuple[str, Embedder]]:
    """The models, each with its name, or with its path where two have one name."""
    from model.network.embedder import Embedder

    alike = len({path.stem for path in paths}) < len(paths)
    return [(str(path) if alike else path.stem, Embedder.load(path, device=device, runtime=runtime)) for path in paths]


def _compare(
    models: list[tuple[str, Embedder]],
    files: list[LabelledFile],
    report: Path,
    layers: tuple[str, ...],
    *,
    repository: str,
    workers: int,
    open_: bool,
) -> None:
    """Compare models by what their layers retrieve, and write the report.

    Raises:
        typer.Exit: files were left out.
    """
    from cli.rendering.columns import print_left_out
    from cli.rendering.environment import environment
    from cli.rendering.progress import StageProgress
    from cli.rendering.report.comparison import write_comparison
    from cli.rendering.report.page import make_folder
    from cli.rendering.tables import comparison_table
    from index.evaluation.comparison import compare_models

    make_folder(report)
    with StageProgress() as progress:
        found = compare_models(
            models,
            files,
            layers=layers,
            workers=workers,
            loaded=lambda done, total: progress.update("decoding", done, total),
            embedded=lambda done, total: progress.update("embedding", done, total),
        )
    write_comparison(found, report, repository=repository, environment=environment())
    output.show_table(comparison_table(found))
    for error in found.left_out:
        print_left_out(error.path, f"{error.reason.value}: {error.detail}")
    output.print(f"report: {report / 'index.html'}", soft_wrap=True, markup=False)
    if open_:
        open_page(report / "index.html")
    if found.left_out:
        raise typer.Exit(EXIT_LEFT_OUT)


def _compare_series(
    models: list[tuple[str, Embedder]],
    files: list[LabelledFile],
    report: Path,
    layers: tuple[str, ...],
    slices: int,
    *,
    repository: str,
    workers: int,
    open_: bool,
) -> None:
    """Compare the rules by which slices are pooled to series, and write the report.

    Raises:
        typer.Exit: files were left out.
    """
    from cli.rendering.columns import print_left_out
    from cli.rendering.environment import environment
    from cli.rendering.progress import StageProgress
    from cli.rendering.report.page import make_folder
    from cli.rendering.report.series import write_series_comparison
    from cli.rendering.tables import series_comparison_tables
    from index.evaluation.by_series import compare_by_series

    make_folder(report)
    with StageProgress() as progress:
        found = compare_by_series(
            models,
            files,
            layers=layers,
            slices=slices,
            workers=workers,
            loaded=lambda done, total: progress.update("decoding", done, total),
            embedded=lambda done, total: progress.update("embedding", done, total),
        )
    write_series_comparison(found, report, repository=repository, slices=slices, environment=environment())
    for table in series_comparison_tables(found):
        output.show_table(table)
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
