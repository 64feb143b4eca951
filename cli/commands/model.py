"""``cbmir model``: the models that come with the program, what a model file says of itself, and making one small."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from cli.commands.encoders import encoder_facts, export, import_, join
from cli.commands.heads import probe, project
from cli.commands.tune import tune
from cli.console import EXIT_LEFT_OUT, output
from cli.options import ForceOption, option, refuse_existing

model_app = typer.Typer(
    no_args_is_help=True, help="Bundled models, what a model says of itself, encoders, heads, compression."
)


@model_app.command("list")
def list_models() -> None:
    """List the models that come with the program."""
    from cli.rendering.columns import Column, Row, print_paths
    from model.network.bundled import DEFAULT, bundled_models
    from model.network.metadata import read_metadata
    from model.network.probe import describe_probe

    columns = [
        Column("name"),
        *(Column(name, right=True) for name in ("classes", "accuracy", "MB")),
        Column("fingerprint"),
    ]
    rows = []
    for name, path in bundled_models().items():
        metadata, probe = read_metadata(path), describe_probe(path)
        classes, measures = (probe.classes, probe.measures) if probe else (metadata.classes, metadata.measures)
        accuracy = f"{measures['accuracy']:.2%}" if measures else "not measured"
        size = f"{_size(path):.1f}"
        shown = f"{name} (default)" if name == DEFAULT else name
        rows.append(Row([shown, str(len(classes)), accuracy, size, metadata.fingerprint[:8]], str(path)))
    print_paths(output, columns, rows)


@model_app.command("show")
def show(
    model: Annotated[
        str | None, typer.Argument(help="Model file, or name of a bundled one.", show_default=False)
    ] = None,
) -> None:
    """Show what a model says of itself: classes, training, measures; and its model card, if it has one."""
    from dataclasses import asdict

    from cli.rendering.columns import print_fields
    from model.network.bundled import bundled_card, bundled_models, find_model
    from model.network.encoder import CARD
    from model.network.heads import model_layers
    from model.network.metadata import read_metadata
    from model.network.probe import describe_probe

    path = find_model(model)
    metadata = read_metadata(path)
    layers = ", ".join(f"{name} ({values:,} values)" for name, values in model_layers(path).items())
    probe = describe_probe(path)
    named = {"probe": f"{', '.join(probe.classes)} (by {probe.layer}, {probe.fingerprint[:8]})"} if probe else {}
    if metadata.encoder:
        print_fields(output, {"model": str(path), **encoder_facts(metadata.encoder), "layers": layers, **named})
        _show_card(path / CARD)
        return
    if metadata.members:
        joins = ", ".join(f"{name} ({one.fingerprint[:8]})" for name, one in metadata.members.items())
        facts = {"model": str(path), "joins": joins, "fingerprint": metadata.fingerprint, "layers": layers}
        print_fields(output, {**facts, **(named or {"classes": ", ".join(metadata.classes)})})
        _show_card(path / CARD)
        return
    facts = {
        "model": str(path),
        "size": f"{_size(path):.1f} MB",
        "fingerprint": metadata.fingerprint,
        "classes": ", ".join(metadata.classes),
        "recipe": _pairs(metadata.recipe),
        "data": _pairs(metadata.data),
        "epoch": str(metadata.epoch),
        "layers": layers,
        **named,
        "compressed": "no" if metadata.rank is None else f"8-bit weights, FCL1-3 of rank {metadata.rank}",
        "calibration": _pairs(asdict(metadata.calibration)) if metadata.calibration else "none, so nothing is unknown",
        "measures": _pairs(metadata.measures or {}) or "none",
    }
    print_fields(output, {**facts, "model": [str(path)]})
    if path in bundled_models().values():
        _show_card(bundled_card(path))


def _size(model: Path) -> float:
    """Of a model's file, or of its folder and what it joins, in megabytes."""
    from model.network.joined import members_of

    members = members_of(model).values()
    own = [path for path in model.iterdir() if path.is_file()] if model.is_dir() else [model]
    inside = sum(_size(member) for member in members if not (member.is_file() and member.parent == model))
    return sum(path.stat().st_size for path in own) / 1e6 + inside


def _show_card(path: Path) -> None:
    """Show a model card, if there is one."""
    from rich.markdown import Markdown
    from rich.text import Text

    if path.exists():
        text = path.read_text(encoding="utf-8")
        output.print(Markdown(text) if output.is_terminal else Text(text), soft_wrap=not output.is_terminal)


@model_app.command("compress")
def compress(
    model: Annotated[Path, typer.Argument(help="Model file.")],
    repository: Annotated[Path, typer.Argument(help="The labelled repository that it was trained on.")],
    small: Annotated[
        Path | None,
        option("--output", "-o", help="Model file to write [the model's name with -small].", show_default=False),
    ] = None,
    force: ForceOption = False,
    rank: Annotated[
        int | None, option("--rank", help="Rank of FCL1-3's factors [512, or their width].", min=1, show_default=False)
    ] = None,
    calibration: Annotated[
        Path | None,
        option(
            "--calibration",
            help="Take over the calibration of this model: one of the same recipe, with a validation part.",
            show_default=False,
        ),
    ] = None,
    workers: Annotated[int | None, option("--workers", help="Processes that decode; by default one a core.")] = None,
) -> None:
    """Make a model small enough to be handed on: low-rank factors and 8-bit weights, 19 MB instead of 300.

    What is lost is measured on the test part: compare the accuracy that it prints, and 'cbmir evaluate', with the dense
    model's.
    """
    import os

    from cli.rendering.columns import print_left_out
    from cli.rendering.progress import StageProgress
    from cli.rendering.tables import measures_table
    from model.errors import CheckpointError
    from model.network.metadata import read_metadata
    from model.training.compress import DEFAULT_RANK, compress_checkpoint
    from model.training.repository import read_repository, split_test

    small = small or model.with_name(f"{model.stem}-small.safetensors")
    refuse_existing(small, "--output", force=force)
    metadata = read_metadata(model)
    twin = read_metadata(calibration) if calibration else metadata
    if calibration and twin.calibration is None:
        raise CheckpointError(f"{calibration} has no calibration: train it with a validation part")
    if twin.classes != metadata.classes:
        raise CheckpointError(f"{calibration} has other classes than {model}: their outputs do not compare")
    files = split_test(read_repository(repository), seed=metadata.seed)
    with StageProgress() as progress:
        result = compress_checkpoint(
            model,
            files,
            small.absolute(),
            rank=rank or min(DEFAULT_RANK, metadata.width),
            calibration=twin.calibration,
            workers=os.cpu_count() or 1 if workers is None else workers,
            progress=lambda done, total: progress.update("factorising", done, total),
        )
    for error in result.left_out:
        print_left_out(error.path, f"{error.reason.value}: {error.detail}")
    if result.measures:
        output.show_table(measures_table(result.measures))
        output.print(f"accuracy {result.measures.accuracy:.2%}")
    size, name = small.stat().st_size / 1e6, result.metadata.fingerprint[:8]
    output.print(f"{small}: {size:.1f} MB, fingerprint {name}", soft_wrap=True, markup=False)
    if result.left_out:
        raise typer.Exit(EXIT_LEFT_OUT)


def _pairs(values: Any) -> str:
    return ", ".join(
        f"{name} {value:.4f}" if isinstance(value, float) else f"{name} {value}"
        for name, value in values.items()
        if not isinstance(value, list | dict) or name == "images"
    )


for name, command in (
    ("import", import_),
    ("tune", tune),
    ("export", export),
    ("join", join),
    ("project", project),
    ("probe", probe),
):
    model_app.command(name)(command)
