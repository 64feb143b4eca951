"""``cbmir index``: archives in, a searchable index out."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import replace
from io import TextIOWrapper
from pathlib import Path
from typing import Annotated, Any

import typer

from cli.console import EXIT_LEFT_OUT, errors, output
from cli.options import IndexOption, RuntimeOption, YesOption, chosen, complete_layer, one_of, option, parse_range
from model.errors import NotAnIndexError, SettingError


def index(
    archives: Annotated[
        list[str],
        typer.Argument(
            metavar="ARCHIVE",
            help="Folders, files, zip or tar files, DICOMDIRs, globs, fsspec addresses; - is a list of paths.",
        ),
    ],
    index: IndexOption,
    model: Annotated[
        Path | None,
        option(
            "--model",
            "-m",
            help="Model file; by default the one that made the index, for a new one the bundled model.",
            show_default=False,
        ),
    ] = None,
    runtime: RuntimeOption = "torch",
    layers: Annotated[
        str | None,
        option("--layers", help="Layers to store, as fcl1,fcl2,fcl3 [fcl1].", autocompletion=complete_layer),
    ] = None,
    quantization: Annotated[
        str | None,
        option(
            "--quantization",
            help="Of the copy searched first: turbo4, int8 or none [turbo4].",
            autocompletion=one_of("turbo4", "int8", "none"),
        ),
    ] = None,
    labels: Annotated[
        str | None,
        option("--labels", help="True classes: 'folder' (first folder below ARCHIVE) or a manifest with path,label."),
    ] = None,
    limit: Annotated[int | None, option("--limit", help="Index only the first N new files.", min=1)] = None,
    dry_run: Annotated[bool, option("--dry-run", help="Say what would be done and how much disk it takes.")] = False,
    path_privacy: Annotated[
        str | None,
        option(
            "--path-privacy", help="Store paths plain or as a hash [plain].", autocompletion=one_of("plain", "hash")
        ),
    ] = None,
    keep_patient_group: Annotated[
        bool | None,
        option("--keep-patient-group", help="Store a keyed hash of the Patient ID, to group and leave out by."),
    ] = None,
    skip_burned_in: Annotated[
        bool, option("--skip-burned-in", help="Leave out images whose header says that text is burned in.")
    ] = False,
    retry_left_out: Annotated[bool, option("--retry-left-out", help="Try again what was left out before.")] = False,
    reembed: Annotated[
        bool, option("--reembed", help="Make the index anew, as with another model; it is replaced when that is whole.")
    ] = False,
    prune: Annotated[bool, option("--prune", help="Remove from the index the files that are gone.")] = False,
    yes: YesOption = False,
    report: Annotated[Path | None, option("--report", help="Write the JSON report here, too.")] = None,
    actors: Annotated[
        str | None, option("--actors", help="Embedding actors: N, or MIN:MAX to let the pool grow.")
    ] = None,
    gpus: Annotated[float | None, option("--gpus", help="GPUs of each actor; may be a fraction.", min=0)] = None,
    batch_size: Annotated[int | None, option("--batch-size", help="Frames embedded at once.", min=1)] = None,
    shards: Annotated[int | None, option("--shards", help="Shards of a server's new collection.", min=1)] = None,
    replicas: Annotated[int | None, option("--replicas", help="Copies of each of its shards.", min=1)] = None,
    write_consistency: Annotated[
        int | None, option("--write-consistency", help="Copies that must confirm a write.", min=1)
    ] = None,
    cpus: Annotated[int | None, option("--cpus", help="Cores that a Ray started here may use.", min=1)] = None,
    ray_address: Annotated[str | None, option("--ray-address", help="Join this Ray cluster.")] = None,
    file_seconds: Annotated[float, option("--file-seconds", help="Give up a decoder after so long.", min=1)] = 120,
    metrics_port: Annotated[
        int | None, option("--metrics-port", help="Answer Prometheus here while the job runs.", min=1, max=65535)
    ] = None,
    metrics_host: Annotated[
        str, option("--metrics-host", help="Address to answer it at; 0.0.0.0 is every one.")
    ] = "127.0.0.1",
    log_json: Annotated[bool, option("--log-json", help="Log as JSON lines on standard error.")] = False,
) -> None:
    """Index archives of DICOM, TIFF, PNG and JPEG files: what is new or changed, and nothing twice.

    Ray starts on this machine unless --ray-address names a cluster. A run that was stopped, or killed, is continued by
    the same command. Exit code 3 says that it is done but some files were left out: the report names each.
    """
    errors.as_json = log_json
    from cli.indexing_progress import run_job
    from cli.rendering.job_report import print_plan, print_report, summary
    from index.address import home
    from index.layout import Layout
    from index.opening import resolve_model
    from model.bundled import find_model
    from workers.archives import resolve_archives
    from workers.job import index_archive
    from workers.preparing import plan_job
    from workers.reembedding import building, check_reembed
    from workers.reembedding import reembed as reembed_index
    from workers.settings import JobSettings

    stored = _stored(index, anew=reembed)
    if reembed and not (stored or model):
        raise SettingError(f"{index} does not say which model made it: name the model with --model")
    settings = JobSettings(
        archives=tuple(resolve_archives(archives, _lines())),
        model=find_model(model) if model or not stored else resolve_model(index, stored, None),
        index=index,
        runtime=runtime,
        layers=_layers(layers, stored),
        quantization=_quantization(quantization, stored),
        labels=labels,
        limit=limit,
        actors=parse_range("--actors", actors),
        gpus=gpus,
        batch_size=batch_size,
        ray_address=ray_address,
        cpus=cpus,
        file_seconds=file_seconds,
        path_privacy=_path_privacy(path_privacy, stored),
        keep_patient_group=bool(stored and stored.patient_groups) if keep_patient_group is None else keep_patient_group,
        skip_burned_in=skip_burned_in,
        retry_left_out=retry_left_out,
        prune=prune,
        report=report,
        debug=errors.debug,
        layout=Layout(shards, replicas, write_consistency),
    )
    if reembed:
        check_reembed(settings)
    if dry_run:
        planned = replace(settings, index=building(home(index))) if reembed else settings
        print_plan(plan_job(planned), settings)
        return
    result = run_job(
        reembed_index if reembed else index_archive,
        settings,
        yes=yes,
        log_json=log_json,
        metrics=(metrics_host, metrics_port) if metrics_port else None,
    )
    if not log_json:
        print_report(result, settings)
    output.print(summary(result), soft_wrap=True)
    if result.anything_left_out:
        raise typer.Exit(EXIT_LEFT_OUT)


def _lines() -> Iterator[str]:
    """Lines of standard input; names that are not UTF-8 come through, to be left out by name."""
    if isinstance(sys.stdin, TextIOWrapper):
        sys.stdin.reconfigure(errors="surrogateescape")
    yield from sys.stdin


def _stored(address: str, *, anew: bool) -> Any:
    """The description of an index that is there already, or ``None``; to make it anew, also one of an older schema.

    Raises:
        VectorIndexError: it is damaged. Nothing is guessed then: it may have hidden paths.
    """
    from index.address import parse_address
    from index.description_file import read_description
    from index.opening import describe_index
    from workers.reembedding import building

    path = parse_address(address)
    if anew and isinstance(path, Path) and not path.exists() and building(path).exists():
        path = building(path)  # a call was killed while the one took the place of the other
    try:
        return (
            read_description(path, any_version=True)
            if anew and isinstance(path, Path)
            else describe_index(address, patient=True)
        )
    except NotAnIndexError:
        return None


def _layers(text: str | None, stored: Any) -> tuple[str, ...]:
    if text is None:
        return tuple(stored.layers) if stored else ("fcl1",)
    names = tuple(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))
    if not names:
        raise SettingError("--layers is empty: name at least one of fcl1, fcl2, fcl3")
    return tuple(chosen("layer", name, ("fcl1", "fcl2", "fcl3")) for name in names)


def _quantization(name: str | None, stored: Any) -> Any:
    if name is None:
        return stored.quantization if stored else "turbo4"
    return chosen("quantization", name, ("turbo4", "int8", "none"))


def _path_privacy(name: str | None, stored: Any) -> Any:
    if name is None:
        return stored.path_privacy if stored else "plain"
    return chosen("path privacy", name, ("plain", "hash"))
