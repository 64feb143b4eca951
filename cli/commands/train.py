"""``cbmir train``: a labelled repository in, a model out."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from cli.console import EXIT_LEFT_OUT, messages, output
from cli.options import (
    DeviceOption,
    ForceOption,
    PrecisionOption,
    SplitByOption,
    TeacherOption,
    WidthOption,
    option,
    refuse_existing,
)

if TYPE_CHECKING:
    from model.training.recipes import Recipe


def train(
    repository: Annotated[
        Path,
        typer.Argument(help="One folder a class, or a CSV or Parquet manifest with path,label[,split,group,source]."),
    ],
    model: Annotated[
        Path | None,
        option(
            "--output",
            "-o",
            help="Model file to write [REPOSITORY-RECIPE-DATE.safetensors].",
            metavar="SAFETENSORS",
            show_default=False,
        ),
    ] = None,
    force: ForceOption = False,
    start: Annotated[
        Path | None,
        option(
            "--from",
            help="Begin with this model instead of at random: a file, or 'bundled'. Few images of new classes suffice.",
            metavar="SAFETENSORS|bundled",
            show_default=False,
        ),
    ] = None,
    recipe: Annotated[
        Literal["fast", "thorough", "paper", "fine-tune", "scanners"] | None,
        option(
            "--recipe",
            help="thorough takes longer, paper is as published, fine-tune is for --from, scanners for repositories of "
            "many sources [fast; fine-tune for --from].",
            show_default=False,
        ),
    ] = None,
    split_by: SplitByOption = "group",
    teacher: TeacherOption = None,
    epochs: Annotated[int | None, option("--epochs", help="Instead of the recipe's own number.", min=1)] = None,
    validation: Annotated[
        float, option("--validation", help="Share of the training part by which the best epoch is chosen; 0: the last.")
    ] = 0.1,
    seed: Annotated[int, option("--seed", help="Seed of the split and of the training.")] = 0,
    resume: Annotated[bool, option("--resume", help="Go on where an interrupted training stopped.")] = False,
    width: WidthOption = None,
    device: DeviceOption = None,
    precision: PrecisionOption = None,
    workers: Annotated[int | None, option("--workers", help="Processes that decode; by default one a core.")] = None,
) -> None:
    """Train the organ network on a labelled repository.

    The repository is split 70/30 into training and test by class, files of one group kept together, unless its manifest
    says how. The best epoch on the validation part is kept. Ctrl-C keeps what was learned.
    """
    from model.errors import SettingError
    from model.network.bundled import find_network
    from model.network.layers import FEATURES
    from model.training.recipes import recipe as find_recipe
    from model.training.repository import read_repository, split_repository
    from model.training.sources import split_by_source

    if start and width:
        raise SettingError("--width: a model that begins with --from has that one's width: leave it out")
    origin = find_network(start) if start else None
    chosen = find_recipe(recipe or ("fine-tune" if start else "fast"), epochs=epochs)
    learn_from = find_teacher(teacher, chosen)
    split = split_by_source if split_by == "source" else split_repository
    files = split(read_repository(repository), seed=seed, validation=validation)
    model = (model or Path(default_name(repository, chosen.name))).absolute()
    _check_output(model, resume=resume, force=force)

    import os

    from cli.rendering.columns import print_left_out
    from cli.rendering.progress import StageProgress
    from cli.rendering.tables import measures_table
    from cli.rendering.training_progress import interruptible, on_device, training_observer
    from model.training.loop import train as train_network

    chosen, device = on_device(chosen, device, precision)
    classes = sorted({file.label for file in files})
    how = f"{chosen.epochs} epochs, {device}, {chosen.precision}"
    messages.print(f"{len(files):,} files, {len(classes)} classes, recipe {chosen.name}, {how}")
    with StageProgress() as progress, interruptible(progress) as stopping:
        result = train_network(
            files,
            chosen,
            model,
            seed=seed,
            resume=resume,
            start=origin,
            teacher=learn_from,
            width=width or FEATURES,
            device=device,
            workers=os.cpu_count() or 1 if workers is None else workers,
            observer=training_observer(progress, stopping),
        )
    for error in result.left_out:
        print_left_out(error.path, f"{error.reason.value}: {error.detail}")
    if result.measures:
        output.show_table(measures_table(result.measures))
        output.print(
            f"accuracy {result.measures.accuracy:.2%} on {result.metadata.data['images']['test']:,} test images"
        )
    what = f"epoch {result.metadata.epoch}, {len(classes)} classes, fingerprint {result.metadata.fingerprint[:8]}"
    output.print(f"{model}: {what}", soft_wrap=True, markup=False)
    if result.left_out:
        raise typer.Exit(EXIT_LEFT_OUT)


def find_teacher(teacher: Path | None, recipe: Recipe) -> Path | None:
    """Where a teacher is, if one is named.

    Raises:
        SettingError: the recipe learns from none.
        CheckpointError: there is no such model.
    """
    from model.errors import SettingError
    from model.network.bundled import find_model

    if teacher and not recipe.distillation:
        raise SettingError(f"--teacher: recipe {recipe.name} learns from none: take --recipe scanners")
    return find_model(teacher) if teacher else None


def default_name(repository: Path, recipe: str) -> str:
    """The name of a model file if the user gives none: its images, its recipe and the day."""
    source = repository.absolute()
    images = source.name if source.is_dir() else source.parent.name
    return f"{images}-{recipe}-{date.today():%Y%m%d}.safetensors"  # noqa: DTZ011 (the day where the person is)


def _check_output(model: Path, *, resume: bool, force: bool) -> None:
    """Say before the training why its model could not be written, or what it would replace."""
    from model.errors import SettingError

    state = model.with_name(model.name + ".training")
    if not model.parent.is_dir():
        raise SettingError(f"{model.parent} does not exist: make the folder, or name another --output")
    if resume:
        return
    if state.exists() and not force:
        raise SettingError(
            f"{state} holds an interrupted training: go on with --resume, or train anew in its place with --force"
        )
    refuse_existing(model, "--output", force=force)
