"""``cbmir model import``, ``export`` and ``join``: other programs' networks in, ours out, several in one index."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from cli.console import output
from cli.options import ForceOption, option, refuse_existing

if TYPE_CHECKING:
    from model.network.encoder import EncoderDescription


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
    print_fields(output, {"model": str(folder), **encoder_facts(encoder)})


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


def encoder_facts(encoder: EncoderDescription) -> dict[str, str]:
    """What an encoder says of itself, in words, by what it is about."""
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
        option("--output", "-o", help="File or folder to write [named after the model].", show_default=False),
    ] = None,
    half: Annotated[
        bool, option("--half", help="Keep an encoder's weights in 16 bits: half the size, nearly the same features.")
    ] = False,
    force: ForceOption = False,
) -> None:
    """Write the network of a model for other programs, or copy a bundled model to a place of your own.

    The ONNX file takes float32 images (n, 1, 224, 224): grey values from 0 to 1, minus 0.5, divided by 0.25. Of an
    encoder's folder another one is made, in which it is an ONNX file: on processors that is several times as fast.
    """
    import shutil

    from cli.rendering.columns import print_fields
    from model.errors import SettingError
    from model.network.bundled import find_network
    from model.network.layers import LAYERS
    from model.network.metadata import read_metadata
    from model.suggestions import unknown_name

    path = find_network(model)
    refuse_joined(path)
    if read_metadata(path).encoder:
        from model.encoders.exporting import export_encoder

        if format_ != "onnx":
            raise SettingError(f"--format {format_}: the weights of {path} lie in its folder as they came")
        folder = (target or Path(f"{path.name}-onnx")).absolute()
        print_fields(output, {"model": str(folder), **encoder_facts(export_encoder(path, folder, half=half))})
        return
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


def refuse_joined(model: Path) -> None:
    """Refuse a joined model where one of its models is needed.

    Raises:
        SettingError: it joins models; one of them is named.
    """
    from model.errors import SettingError
    from model.network.joined import members_of

    if members := members_of(model):
        raise SettingError(f"{model} joins models: name one of them, as {next(iter(members.values()))}")
