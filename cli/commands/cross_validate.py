"""``cbmir cross-validate``: how much the measures depend on which images are held out."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from cli.commands.train import find_teacher
from cli.console import EXIT_LEFT_OUT, messages, output
from cli.options import (
    DeviceOption,
    ForceOption,
    OpenOption,
    PrecisionOption,
    ReportFolderOption,
    SplitByOption,
    TeacherOption,
    WidthOption,
    option,
    refuse_existing,
)
from cli.pages import open_page

if TYPE_CHECKING:
    from model.training.loop import Observer


def cross_validate(
    repository: Annotated[
        Path,
        typer.Argument(help="One folder a class, or a CSV or Parquet manifest with path,label[,split,group,source]."),
    ],
    folds: Annotated[int, option("--folds", help="Number of folds.", min=2)] = 10,
    report: ReportFolderOption = Path("cross-validation"),
    force: ForceOption = False,
    open_: OpenOption = False,
    recipe: Annotated[
        Literal["fast", "thorough", "paper", "scanners"], option("--recipe", help="See 'cbmir train'.")
    ] = "fast",
    epochs: Annotated[int | None, option("--epochs", help="Number of epochs, instead of the recipe's.", min=1)] = None,
    split_by: SplitByOption = "group",
    teacher: TeacherOption = None,
    seed: Annotated[int, option("--seed", help="Seed of the folds and the trainings.")] = 0,
    width: WidthOption = None,
    device: DeviceOption = None,
    precision: PrecisionOption = None,
    workers: Annotated[int | None, option("--workers", help="Processes that decode; by default one a core.")] = None,
) -> None:
    """Train and measure once for each fold of the repository's training part (paper section 4.3).

    The test part is left alone; by source there is none, and each fold is of sources that its training never saw. Every
    fold is a whole training: the fast recipe takes about an hour for 5,000 images on 2 cores. Ctrl-C keeps what is
    done, the same command goes on.
    Exit code 3 says that files were left out, which are named.
    """
    import os

    from model.errors import RepositoryError, TrainingInterrupted
    from model.training.recipes import recipe as find_recipe
    from model.training.repository import read_repository, split_test

    refuse_existing(report / "index.html", "--report", force=force)
    chosen = find_recipe(recipe, epochs=epochs)
    files = read_repository(repository)
    if split_by == "group":
        files = [file for file in split_test(files, seed=seed) if file.split != "test"]
    if not files:
        raise RepositoryError(f"{repository} has no training part: there is nothing to cross-validate")

    from rich.markup import escape

    from cli.rendering.environment import environment
    from cli.rendering.progress import StageProgress
    from cli.rendering.report.cross_validation import write_cross_validation
    from cli.rendering.tables import folds_table
    from cli.rendering.training_progress import interruptible, on_device, training_observer
    from model.network.layers import FEATURES
    from model.training import cross_validation

    chosen, device = on_device(chosen, device, precision)
    how = f"{chosen.epochs} epochs, {device}, {chosen.precision}"
    messages.print(f"{len(files):,} training files, {folds} folds, recipe {chosen.name}, {how}")
    done: list[cross_validation.Fold] = []
    with StageProgress() as progress, interruptible(progress) as stopping:

        def observer(number: int) -> Observer:
            return training_observer(progress, stopping, prefix=f"fold {number}/{folds} · ")

        found = cross_validation.cross_validate(
            files,
            chosen,
            report,
            folds=folds,
            by=split_by,
            seed=seed,
            teacher=find_teacher(teacher, chosen),
            width=width or FEATURES,
            device=device,
            workers=os.cpu_count() or 1 if workers is None else workers,
            observer=observer,
        )
        try:
            for fold in found:
                progress.note(f"fold {fold.number} of {folds}: accuracy {fold.measures.accuracy:.2%}")
                done.append(fold)
                if stopping.asked and len(done) < folds:
                    raise TrainingInterrupted("between two folds")
        except TrainingInterrupted as error:
            raise TrainingInterrupted(
                f"stopped before the end of fold {len(done) + 1} of {folds}; {report} keeps what is done: the same "
                "command goes on"
            ) from error
    write_cross_validation(done, report, repository=str(repository), recipe=chosen, environment=environment())
    output.show_table(folds_table(done))
    left_out = cross_validation.all_left_out(done)
    for text in left_out:
        messages.print(f"[yellow]left out:[/] {escape(text)}", soft_wrap=True)
    output.print(f"report: {report / 'index.html'}", soft_wrap=True, markup=False)
    if open_:
        open_page(report / "index.html")
    if left_out:
        raise typer.Exit(EXIT_LEFT_OUT)
