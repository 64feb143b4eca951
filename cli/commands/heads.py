"""``cbmir model project`` and ``probe``: what is fitted behind a layer, on labelled images."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cli.console import EXIT_LEFT_OUT, messages, output
from cli.options import ForceOption, RuntimeOption, SplitByOption, option, refuse_existing

RepositoryArgument = Annotated[
    Path, typer.Argument(help="One folder a class, or a CSV or Parquet manifest with path,label[,split,group].")
]
SeedOption = Annotated[int | None, option("--seed", help="Of the split, where the repository names none.")]
DeviceOption = Annotated[str, option("--device", help="Torch device.")]
WorkersOption = Annotated[int | None, option("--workers", help="Processes that decode; by default one a core.")]


def project(
    model: Annotated[str, typer.Argument(help="Model file, or name of a bundled one.")],
    repository: RepositoryArgument,
    dimensions: Annotated[int, option("--dimensions", help="Values that the head gives.", min=2, max=1024)] = 128,
    layer: Annotated[
        str | None,
        option("--layer", help="Whose features it maps [the model's first; of a joined one all].", show_default=False),
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
    split_by: SplitByOption = "group",
    seed: SeedOption = None,
    runtime: RuntimeOption = "torch",
    device: DeviceOption = "cpu",
    workers: WorkersOption = None,
) -> None:
    """Fit a head: a linear map to few values, under which images of one label lie together.

    The repository's labels need not be the model's classes. A head is one more layer of the model, for 'cbmir index
    --layers', 'search --layer' and 'evaluate --layers'. By default a new index stores it alone. With --split-by source
    the sources by which a probe is calibrated are left out, if that is given the same.
    """
    import os

    from cli.rendering.columns import print_left_out
    from cli.rendering.progress import StageProgress
    from model.errors import SettingError
    from model.network import joined
    from model.network.bundled import bundled_models, find_network
    from model.network.embedder import Embedder
    from model.network.heads import NAME, head_path, save_head
    from model.network.metadata import read_metadata
    from model.suggestions import unknown_name
    from model.training.projection import fit_head
    from model.training.repository import read_repository, split_test
    from model.training.sources import split_by_source

    path = find_network(model)
    metadata = read_metadata(path)
    layers = tuple(metadata.layers)
    layer = layer or (joined.LAYER if metadata.members else layers[0])
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
    labelled = read_repository(repository)
    if split_by == "source":
        split = split_by_source(labelled, seed=seed, keep_test=True)
        files = [file for file in split if whole or file.split == "train"]
    else:
        files = [file for file in split_test(labelled, seed=seed) if whole or file.split != "test"]
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


def probe(
    model: Annotated[str, typer.Argument(help="Model file, encoder's folder, or name of a bundled model.")],
    repository: RepositoryArgument,
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
    split_by: SplitByOption = "group",
    seed: SeedOption = None,
    runtime: RuntimeOption = "torch",
    device: DeviceOption = "cpu",
    workers: WorkersOption = None,
) -> None:
    """Fit a probe: a calibrated classifier of your labels on a model's features, which also says what is unknown.

    With it beside the model, new indexes store an organ with each picture, searches predict one for the query, and
    'cbmir evaluate' measures it. It needs a hundred images for validation, or nothing is unknown to it: with --split-by
    source those are of sources that it was not fitted on, so that it holds on archives that nobody chose.
    """
    import os

    from cli.rendering.columns import print_left_out
    from cli.rendering.progress import StageProgress
    from cli.rendering.tables import measures_table
    from model.errors import SettingError
    from model.network import joined
    from model.network.bundled import bundled_models, find_network
    from model.network.embedder import Embedder
    from model.network.heads import default_layers, model_layers
    from model.network.probe import probe_path, save_probe
    from model.suggestions import unknown_name
    from model.training.probing import fit_probe
    from model.training.repository import read_repository, split_repository
    from model.training.sources import split_by_source

    path = find_network(model)
    layers = tuple(model_layers(path))
    own = default_layers(path)
    layer = layer or (own[0] if len(own) == 1 else joined.LAYER)
    if layer not in layers:
        raise SettingError(f"--layer {layer}: {unknown_name('layer', layer, layers)}")
    if copy is None and path in bundled_models().values():
        raise SettingError(f"{path} belongs to the program: name a copy of it to put the probe beside, by --output")
    target = probe_path((copy or path).absolute())
    refuse_existing(target, "--output" if copy else "MODEL", force=force)
    embedder = Embedder.load(path, device=device, runtime=runtime, probe=False)
    seed = embedder.metadata.seed if seed is None else seed
    labelled = read_repository(repository)
    if split_by == "source":
        files = split_by_source(labelled, seed=seed, keep_test=True)
    else:
        files = split_repository(labelled, seed=seed)
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


def _copy_model(model: Path, copy: Path, *, force: bool) -> None:
    """Copy a model file with its heads.

    Raises:
        SettingError: the model is a folder, or something is in the way.
    """
    import shutil

    from model.errors import SettingError
    from model.network.heads import describe_heads, head_path

    if model.is_dir():
        raise SettingError("--output: what adds to a folder's model lies in the folder: copy that, and name the copy")
    copies = {model: copy} | {head_path(model, name): head_path(copy, name) for name in describe_heads(model)}
    for target in copies.values():
        refuse_existing(target, "--output", force=force)
    for source, target in copies.items():
        shutil.copyfile(source, target)
