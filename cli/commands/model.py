"""``cbmir model``: the models that come with the program, what a model file says of itself, and making one small."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from cli.console import EXIT_LEFT_OUT, messages, output
from cli.options import ForceOption, RuntimeOption, option, refuse_existing

if TYPE_CHECKING:
    from model.network.encoder import EncoderDescription

model_app = typer.Typer(
    no_args_is_help=True, help="Bundled models, what a model says of itself, encoders, heads, compression."
)


@model_app.command("list")
def list_models() -> None:
    """List the models that come with the program."""
    from cli.rendering.columns import Column, Row, print_paths
    from model.network.bundled import DEFAULT, bundled_models
    from model.network.metadata import read_metadata

    columns = [
        Column("name"),
        *(Column(name, right=True) for name in ("classes", "accuracy", "MB")),
        Column("fingerprint"),
    ]
    rows = []
    for name, path in bundled_models().items():
        metadata = read_metadata(path)
        accuracy = f"{metadata.measures['accuracy']:.2%}" if metadata.measures else "not measured"
        size = f"{path.stat().st_size / 1e6:.1f}"
        shown = f"{name} (default)" if name == DEFAULT else name
        rows.append(Row([shown, str(len(metadata.classes)), accuracy, size, metadata.fingerprint[:8]], str(path)))
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
    from model.network.bundled import bundled_models, find_model
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
        print_fields(output, {"model": str(path), **_encoder_facts(metadata.encoder), "layers": layers, **named})
        _show_card(path / CARD)
        return
    if metadata.members:
        joins = ", ".join(f"{name} ({one.fingerprint[:8]})" for name, one in metadata.members.items())
        facts = {"model": str(path), "joins": joins, "fingerprint": metadata.fingerprint, "layers": layers}
        print_fields(output, {**facts, "classes": ", ".join(metadata.classes), **named})
        return
    facts = {
        "model": str(path),
        "size": f"{path.stat().st_size / 1e6:.1f} MB",
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
        _show_card(path.with_suffix(".md"))


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


@model_app.command("import")
def import_(
    source: Annotated[
        str,
        typer.Argument(
            help="ONNX file; timm:ARCHITECTURE; local folder of transformers; or imagenet, for EfficientNet-Lite0.",
            metavar="SOURCE",
        ),
    ],
    name: Annotated[str, option("--name", help="Folder to make: the model, for --model.")],
    weights: Annotated[
        Path | None,
        option("--weights", help="Weights of timm:ARCHITECTURE: safetensors, or a PyTorch file.", show_default=False),
    ] = None,
    size: Annotated[
        int | None, option("--size", help="Side of the images that enter it [what it says].", min=16, max=1024)
    ] = None,
    resized: Annotated[
        int | None,
        option("--resize", help="Side before --size is cut from the centre [what it says].", min=16, max=2048),
    ] = None,
    rule: Annotated[
        Literal["stretch", "crop", "pad"] | None,
        option("--square", help="How an image becomes a square [what it says, or stretch].", show_default=False),
    ] = None,
    mean: Annotated[
        str | None, option("--mean", help="Mean by channel, of values 0 to 1.", metavar="M,M,M", show_default=False)
    ] = None,
    std: Annotated[
        str | None, option("--std", help="Standard deviation by channel.", metavar="S,S,S", show_default=False)
    ] = None,
    channels: Annotated[
        int | None, option("--channels", help="1 for grey images, 3 for colour [what it says].", min=1, max=3)
    ] = None,
    output_: Annotated[
        str | None, option("--output", help="Which output of an ONNX file to use.", metavar="NAME", show_default=False)
    ] = None,
    pooling: Annotated[
        Literal["none", "mean", "first"] | None,
        option("--pooling", help="How vectors by position become one: their mean, or the first.", show_default=False),
    ] = None,
    cosine: Annotated[
        bool, option("--cosine", help="Divide features by their length: distances then rank as cosines do.")
    ] = False,
    dot: Annotated[
        bool, option("--dot", help="Compare features by their dot products, and not by Euclidean distance.")
    ] = False,
    licence: Annotated[str, option("--licence", help="Licence of the weights, kept with the encoder.")] = "",
) -> None:
    """Bring another network in as an encoder: a folder with its weights, and encoder.json that says how it is used.

    A test picture goes through it. Nothing is fetched, and no code of it is run: a PyTorch file is read by weights_only
    and kept as safetensors. The folder is a model for 'cbmir index', 'search', 'evaluate' and 'model project'.
    """
    from cli.rendering.columns import print_fields
    from cli.rendering.progress import StageProgress
    from model.encoders.importing import ImportOptions, import_encoder
    from model.errors import SettingError

    if cosine and dot:
        raise SettingError("--cosine and --dot exclude each other: of vectors of length one both rank alike")
    folder = Path(name).absolute()
    if folder.exists():
        raise SettingError(f"{folder} is there already: choose another --name")
    if channels == 2:
        raise SettingError("--channels 2: a network takes grey images (1) or colour (3)")
    options = ImportOptions(
        size=size,
        resized=resized,
        rule=rule,
        mean=_numbers("--mean", mean),
        std=_numbers("--std", std),
        channels=3 if channels == 3 else 1 if channels else None,
        output=output_,
        pooling=pooling,
        normalised=cosine,
        dot=dot,
        licence=licence,
    )
    with StageProgress() as progress:
        progress.wait("a test picture goes through it")
        encoder = import_encoder(source, folder, options, weights=weights)
    print_fields(output, {"model": str(folder), **_encoder_facts(encoder)})


def _numbers(name: str, text: str | None) -> tuple[float, ...] | None:
    """``"0.5,0.5,0.5"`` as numbers.

    Raises:
        SettingError: they are none.
    """
    from model.errors import SettingError

    if text is None:
        return None
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError as error:
        raise SettingError(f"{name} {text}: give numbers with commas between them, as 0.5,0.5,0.5") from error


def _encoder_facts(encoder: EncoderDescription) -> dict[str, str]:
    how = encoder.preparation
    side = how.resized
    square = {"stretch": f"stretched to {side} × {side}", "crop": f"shorter side to {side}", "pad": f"padded to {side}"}
    cut = f", the middle {how.size} × {how.size}" if side != how.size or how.rule == "crop" else ""
    colour = "grey" if how.channels == 1 else "in colour"
    facts = {
        "source": encoder.source,
        "runs by": encoder.kind,
        "architecture": encoder.architecture,
        "output": encoder.output,
        "images": f"{colour}, {square[how.rule]}{cut}, {how.interpolation}",
        "scaled": f"mean {', '.join(map(str, how.mean))}, std {', '.join(map(str, how.std))}",
        "feature": f"{encoder.layer}, {encoder.values:,} values"
        + {"none": "", "mean": ", the mean over positions", "first": ", of the first position"}[encoder.pooling]
        + (", of length one" if encoder.normalised else "")
        + (", compared by dot products" if encoder.dot else ""),
        "licence": encoder.licence or "not stated",
        "fingerprint": encoder.fingerprint,
    }
    return {name: value for name, value in facts.items() if value}


@model_app.command("export")
def export(
    model: Annotated[str, typer.Argument(help="Model file, or name of a bundled one.")],
    format_: Annotated[
        Literal["onnx", "safetensors"], option("--format", help="ONNX for other programs; or the model file itself.")
    ] = "onnx",
    layer: Annotated[
        str, option("--layer", help="Whose feature the ONNX file gives.", metavar="fcl1|fcl2|fcl3")
    ] = "fcl1",
    target: Annotated[
        Path | None,
        option("--output", "-o", help="File to write [the model's name with the format].", show_default=False),
    ] = None,
    force: ForceOption = False,
) -> None:
    """Write the network of a model for other programs, or copy a bundled model to a place of your own.

    The ONNX file takes float32 images (n, 1, 224, 224): grey values from 0 to 1, minus 0.5, divided by 0.25.
    """
    import shutil

    from model.errors import SettingError
    from model.network.bundled import find_model
    from model.network.layers import LAYERS
    from model.network.metadata import read_metadata
    from model.suggestions import unknown_name

    path = find_model(model)
    _refuse_joined(path, "name")
    if read_metadata(path).encoder:
        raise SettingError(f"{path} is another program's network: its folder holds the weights as they came")
    if layer not in LAYERS:
        raise SettingError(f"--layer {layer}: {unknown_name('layer', layer, LAYERS)}")
    target = (target or Path(f"{path.stem}.{format_}")).absolute()
    refuse_existing(target, "--output", force=force)
    if format_ == "onnx":
        from model.encoders.exporting import export_onnx

        export_onnx(path, target, layer=layer)
    else:
        shutil.copyfile(path, target)
    output.print(f"{target}: {target.stat().st_size / 1e6:.1f} MB", soft_wrap=True, markup=False)


@model_app.command("join")
def join(
    models: Annotated[list[str], typer.Argument(help="Model files, encoders' folders, or names of bundled models.")],
    name: Annotated[str, option("--name", help="Folder to make: the model, for --model.")],
) -> None:
    """Join models: an index stores their layers as named vectors, and a search fuses the ranks by one layer of each.

    They are copied into the folder with their heads and probes. Organs are named by the first of them that names any.
    """
    from cli.rendering.columns import print_fields
    from model.errors import SettingError
    from model.network.bundled import find_model
    from model.network.heads import describe_heads, head_path, model_layers
    from model.network.joined import join_models
    from model.network.metadata import read_metadata
    from model.network.probe import describe_probe, probe_path

    paths = [find_model(model) for model in models]
    if len(paths) < 2:
        raise SettingError("one model joins with nothing: name two or more")
    named = {path.stem if path.is_file() else path.absolute().name: path for path in paths}
    if len(named) < len(paths):
        raise SettingError("two of the models have one name, by which their layers would be called: rename one")
    for path in paths:
        if read_metadata(path).members:
            raise SettingError(f"{path} joins models itself: name those that it joins")
    beside = {}
    for one, path in named.items():
        heads = [head_path(path, head) for head in describe_heads(path)]
        beside[one] = [*heads, *([probe_path(path)] if describe_probe(path) else [])]
    folder = Path(name).absolute()
    join_models(named, folder, beside)
    layers = ", ".join(f"{layer} ({values:,} values)" for layer, values in model_layers(folder).items())
    print_fields(output, {"model": str(folder), "fingerprint": read_metadata(folder).fingerprint, "layers": layers})


@model_app.command("project")
def project(
    model: Annotated[str, typer.Argument(help="Model file, or name of a bundled one.")],
    repository: Annotated[
        Path, typer.Argument(help="One folder a class, or a CSV or Parquet manifest with path,label[,split,group].")
    ],
    dimensions: Annotated[int, option("--dimensions", help="Values that the head gives.", min=2, max=1024)] = 128,
    layer: Annotated[
        str | None, option("--layer", help="Whose features it maps [the model's first].", show_default=False)
    ] = None,
    name: Annotated[str, option("--name", help="Name of the head, as a layer of the model.")] = "projected",
    whole: Annotated[bool, option("--whole", help="Fit on the test part, too: nothing is left to measure it.")] = False,
    copy: Annotated[
        Path | None,
        option(
            "--output",
            "-o",
            help="Copy the model there, and put the head beside the copy [beside the model].",
            metavar="SAFETENSORS",
            show_default=False,
        ),
    ] = None,
    force: ForceOption = False,
    seed: Annotated[int | None, option("--seed", help="Of the split, where the repository names none.")] = None,
    runtime: RuntimeOption = "torch",
    device: Annotated[str, option("--device", help="Torch device.")] = "cpu",
    workers: Annotated[int | None, option("--workers", help="Processes that decode; by default one a core.")] = None,
) -> None:
    """Fit a head: a linear map to few values, under which images of one label lie together.

    The repository's labels need not be the model's classes. A head is one more layer of the model, for 'cbmir index
    --layers', 'search --layer' and 'evaluate --layers'. By default a new index stores it alone.
    """
    import os

    from cli.rendering.columns import print_left_out
    from cli.rendering.progress import StageProgress
    from model.errors import SettingError
    from model.network.bundled import bundled_models, find_model
    from model.network.embedder import Embedder
    from model.network.heads import NAME, head_path, save_head
    from model.network.metadata import read_metadata
    from model.suggestions import unknown_name
    from model.training.projection import fit_head
    from model.training.repository import read_repository, split_test

    path = find_model(model)
    _refuse_joined(path)
    layers = tuple(read_metadata(path).layers)
    layer = layer or layers[0]
    if layer not in layers:
        raise SettingError(f"--layer {layer}: {unknown_name('layer', layer, layers)}")
    if not NAME.fullmatch(name) or name in layers:
        raise SettingError(f"--name {name}: a head is called by small letters, digits, '-' and '_', and like no layer")
    if copy is None and path in bundled_models().values():
        raise SettingError(f"{path} belongs to the program: name a copy of it to put the head beside, by --output")
    target = head_path((copy or path).absolute(), name)
    refuse_existing(target, "--name", force=force)
    embedder = Embedder.load(path, device=device, runtime=runtime, probe=False)
    seed = embedder.metadata.seed if seed is None else seed
    files = [file for file in split_test(read_repository(repository), seed=seed) if whole or file.split != "test"]
    if copy:
        _copy_model(path, copy, force=force)
    with StageProgress() as progress:
        head, left_out = fit_head(
            embedder,
            files,
            name=name,
            layer=layer,
            dimensions=dimensions,
            workers=os.cpu_count() or 1 if workers is None else workers,
            loaded=lambda done, total: progress.update("decoding", done, total),
            embedded=lambda done, total: progress.update("embedding", done, total),
        )
    stored = save_head(target, head)
    for error in left_out:
        print_left_out(error.path, f"{error.reason.value}: {error.detail}")
    on = f"{stored.data['images']:,} images of {stored.data['classes']} labels"
    what = f"{layer} to {dimensions} values, fitted on {on}, fingerprint {stored.fingerprint[:8]}"
    output.print(f"{target}: {what}", soft_wrap=True, markup=False)
    if left_out:
        raise typer.Exit(EXIT_LEFT_OUT)


@model_app.command("probe")
def probe(
    model: Annotated[str, typer.Argument(help="Model file, encoder's folder, or name of a bundled model.")],
    repository: Annotated[
        Path, typer.Argument(help="One folder a class, or a CSV or Parquet manifest with path,label[,split,group].")
    ],
    layer: Annotated[
        str | None,
        option("--layer", help="Whose features it classifies [the model's head, or its first].", show_default=False),
    ] = None,
    copy: Annotated[
        Path | None,
        option(
            "--output",
            "-o",
            help="Copy the model and its heads there, and put the probe beside the copy [beside the model].",
            metavar="SAFETENSORS",
            show_default=False,
        ),
    ] = None,
    force: ForceOption = False,
    seed: Annotated[int | None, option("--seed", help="Of the split, where the repository names none.")] = None,
    runtime: RuntimeOption = "torch",
    device: Annotated[str, option("--device", help="Torch device.")] = "cpu",
    workers: Annotated[int | None, option("--workers", help="Processes that decode; by default one a core.")] = None,
) -> None:
    """Fit a probe: a calibrated classifier of your labels on a model's features, which also says what is unknown.

    With it beside the model, new indexes store an organ with each picture, searches predict one for the query, and
    'cbmir evaluate' measures it. It needs a hundred images for validation, or nothing is unknown to it.
    """
    import os

    from cli.rendering.columns import print_left_out
    from cli.rendering.progress import StageProgress
    from cli.rendering.tables import measures_table
    from model.errors import SettingError
    from model.network.bundled import bundled_models, find_model
    from model.network.embedder import Embedder
    from model.network.heads import default_layers, model_layers
    from model.network.probe import probe_path, save_probe
    from model.suggestions import unknown_name
    from model.training.probing import fit_probe
    from model.training.repository import read_repository, split_repository

    path = find_model(model)
    _refuse_joined(path)
    layers = tuple(model_layers(path))
    layer = layer or default_layers(path)[0]
    if layer not in layers:
        raise SettingError(f"--layer {layer}: {unknown_name('layer', layer, layers)}")
    if copy is None and path in bundled_models().values():
        raise SettingError(f"{path} belongs to the program: name a copy of it to put the probe beside, by --output")
    target = probe_path((copy or path).absolute())
    refuse_existing(target, "--output" if copy else "MODEL", force=force)
    embedder = Embedder.load(path, device=device, runtime=runtime, probe=False)
    seed = embedder.metadata.seed if seed is None else seed
    files = split_repository(read_repository(repository), seed=seed)
    if copy:
        _copy_model(path, copy, force=force)
    with StageProgress() as progress:
        fitted, measures, left_out = fit_probe(
            embedder,
            files,
            layer=layer,
            workers=os.cpu_count() or 1 if workers is None else workers,
            loaded=lambda done, total: progress.update("decoding", done, total),
            embedded=lambda done, total: progress.update("embedding", done, total),
            fitting=lambda: progress.wait("the classifier is fitted"),
        )
    stored = save_probe(target, fitted)
    for error in left_out:
        print_left_out(error.path, f"{error.reason.value}: {error.detail}")
    if measures:
        output.show_table(measures_table(measures))
        output.print(f"accuracy {measures.accuracy:.2%} on {stored.data['images']['test']:,} test images")
        if stored.calibration:
            output.print(f"of them {stored.data['test_known']:.2%} taken for one of its classes, the others unknown")
    if not stored.calibration:
        messages.print_prose("[yellow]note:[/] too few images for validation to calibrate it: nothing is unknown to it")
    what = f"{len(stored.classes)} classes by {layer}, fingerprint {stored.fingerprint[:8]}"
    output.print(f"{target}: {what}", soft_wrap=True, markup=False)
    if left_out:
        raise typer.Exit(EXIT_LEFT_OUT)


def _refuse_joined(model: Path, what: str = "fit it on") -> None:
    from model.errors import SettingError
    from model.network.joined import members_of

    if members := members_of(model):
        raise SettingError(f"{model} joins models: {what} one of them, as {next(iter(members.values()))}")


def _copy_model(model: Path, copy: Path, *, force: bool) -> None:
    """Copy a model file with its heads.

    Raises:
        SettingError: the model is a folder, or something is in the way.
    """
    import shutil

    from model.errors import SettingError
    from model.network.heads import describe_heads, head_path

    if model.is_dir():
        raise SettingError("--output: what adds to an encoder lies in its folder: copy that, and name the copy")
    copies = {model: copy} | {head_path(model, name): head_path(copy, name) for name in describe_heads(model)}
    for target in copies.values():
        refuse_existing(target, "--output", force=force)
    for source, target in copies.items():
        shutil.copyfile(source, target)


def _pairs(values: Any) -> str:
    return ", ".join(
        f"{name} {value:.4f}" if isinstance(value, float) else f"{name} {value}"
        for name, value in values.items()
        if not isinstance(value, list | dict) or name == "images"
    )
