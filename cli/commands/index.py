"""``cbmir index``: archives in, a searchable index out."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from io import TextIOWrapper
from pathlib import Path
from typing import Annotated, Any

import typer

from cli.console import EXIT_LEFT_OUT, errors, output
from cli.options import (
    WHICH_FILES,
    IndexOption,
    NoNestedOption,
    PathPrivacyName,
    QuantizationName,
    RuntimeName,
    SkipBurnedInOption,
    complete_layer,
    option,
    parse_layers,
    parse_range,
    refuse_existing,
)
from cli.pacs_options import (
    AePortOption,
    AeTitleOption,
    AuthoritiesOption,
    CertificateOption,
    ConnectionsOption,
    HoursOption,
    KeyOption,
    RateOption,
    SinceOption,
    WhereOption,
    pacs_settings,
)
from index.address import Address
from model.errors import NotAnIndexError, SettingError

_STORED = "What is stored"
_REMOVAL = "What is removed, moved or made anew"
_REPORTS = "Reports and logs"
_MACHINE = "This machine, or a Ray cluster"
_SERVER = "A new collection of a Qdrant server"


def index(
    archives: Annotated[
        list[str],
        typer.Argument(
            metavar="ARCHIVE",
            help="Folders, files, zip or tar files, DICOMDIRs, globs, fsspec addresses, a PACS (dicomweb+https://…, "
            "dimse://AET@HOST:PORT); - reads paths from stdin.",
        ),
    ],
    index: IndexOption,
    models: Annotated[
        list[Path] | None,
        option(
            "--model",
            "-m",
            help="Model; by default the one that made the index, for a new one the bundled model.",
            show_default=False,
        ),
    ] = None,
    dry_run: Annotated[bool, option("--dry-run", help="Say what would be done and how much disk it takes.")] = False,
    labels: Annotated[
        str | None,
        option(
            "--labels",
            help="True classes: 'folder' (first folder below ARCHIVE) or a manifest with path,label.",
            metavar="folder|CSV|PARQUET",
            rich_help_panel=WHICH_FILES,
        ),
    ] = None,
    limit: Annotated[
        int | None, option("--limit", help="Index only N new or changed files.", min=1, rich_help_panel=WHICH_FILES)
    ] = None,
    retry_left_out: Annotated[
        bool, option("--retry-left-out", help="Try again what was left out before.", rich_help_panel=WHICH_FILES)
    ] = False,
    no_nested: NoNestedOption = False,
    skip_burned_in: SkipBurnedInOption = False,
    layers: Annotated[
        str | None,
        option(
            "--layers",
            help="Layers to store, as fcl1,projected [the model's head, or its first layer].",
            metavar="fcl1,fcl2,fcl3",
            autocompletion=complete_layer,
            rich_help_panel=_STORED,
        ),
    ] = None,
    quantization: Annotated[
        QuantizationName | None,
        option("--quantization", help="How the copy searched first is compressed [turbo4].", rich_help_panel=_STORED),
    ] = None,
    path_privacy: Annotated[
        PathPrivacyName | None,
        option("--path-privacy", help="Store paths as they are, or as keyed hashes [plain].", rich_help_panel=_STORED),
    ] = None,
    keep_patient_group: Annotated[
        bool | None,
        option(
            "--keep-patient-group",
            help="Store a keyed hash of the Patient ID, to group and leave out by.",
            rich_help_panel=_STORED,
        ),
    ] = None,
    repair: Annotated[
        bool,
        option(
            "--repair",
            help="Compare the ledger with the index, and embed again what has lost its points.",
            rich_help_panel=_REMOVAL,
        ),
    ] = False,
    prune: Annotated[
        bool, option("--prune", help="Remove from the index the files that are gone.", rich_help_panel=_REMOVAL)
    ] = False,
    yes: Annotated[bool, option("--yes", "-y", help="Remove without asking.", rich_help_panel=_REMOVAL)] = False,
    moved_from: Annotated[
        str | None,
        option(
            "--moved-from",
            help="Old address of ARCHIVE, which was moved or mounted elsewhere: no picture is embedded again.",
            metavar="OLD ARCHIVE",
            rich_help_panel=_REMOVAL,
        ),
    ] = None,
    reembed: Annotated[
        bool,
        option(
            "--reembed",
            help="Make the index anew, as with another model; the old one is replaced when the new one is whole.",
            rich_help_panel=_REMOVAL,
        ),
    ] = False,
    report: Annotated[
        Path | None,
        option("--report", help="Write the JSON report here, too.", metavar="FILE", rich_help_panel=_REPORTS),
    ] = None,
    force: Annotated[
        bool, option("--force", help="Replace a report that is there already.", rich_help_panel=_REPORTS)
    ] = False,
    metrics_port: Annotated[
        int | None,
        option(
            "--metrics-port",
            help="Port at which Prometheus may ask while the job runs.",
            min=1,
            max=65535,
            rich_help_panel=_REPORTS,
        ),
    ] = None,
    metrics_host: Annotated[
        str,
        option("--metrics-host", help="Address to listen at for it; 0.0.0.0 is every one.", rich_help_panel=_REPORTS),
    ] = "127.0.0.1",
    log_json: Annotated[
        bool, option("--log-json", help="Log as JSON lines on standard error.", rich_help_panel=_REPORTS)
    ] = False,
    runtime: Annotated[
        RuntimeName,
        option(
            "--runtime",
            help="What computes the network; openvino is faster on processors, needs cbmir[openvino].",
            rich_help_panel=_MACHINE,
        ),
    ] = "torch",
    actors: Annotated[
        str | None,
        option(
            "--actors",
            help="Embedding actors: N, or MIN:MAX to let the pool grow.",
            metavar="N|MIN:MAX",
            rich_help_panel=_MACHINE,
        ),
    ] = None,
    gpus: Annotated[
        float | None,
        option("--gpus", help="GPUs of each actor; may be a fraction.", min=0, rich_help_panel=_MACHINE),
    ] = None,
    batch_size: Annotated[
        int | None, option("--batch-size", help="Frames embedded at once.", min=1, rich_help_panel=_MACHINE)
    ] = None,
    cpus: Annotated[
        int | None, option("--cpus", help="Cores that a Ray started here may use.", min=1, rich_help_panel=_MACHINE)
    ] = None,
    ray_address: Annotated[
        str | None,
        option(
            "--ray-address",
            help="Join this Ray cluster instead of starting Ray here.",
            metavar="HOST:PORT|auto",
            rich_help_panel=_MACHINE,
        ),
    ] = None,
    file_seconds: Annotated[
        float, option("--file-seconds", help="Seconds to wait for a decoder.", min=1, rich_help_panel=_MACHINE)
    ] = 120,
    stall_timeout: Annotated[
        float,
        option(
            "--stall-timeout", help="Minutes without an image until the job gives up.", min=1, rich_help_panel=_MACHINE
        ),
    ] = 30,
    where: WhereOption = None,
    since: SinceOption = None,
    rate: RateOption = None,
    hours: HoursOption = None,
    connections: ConnectionsOption = 4,
    authorities: AuthoritiesOption = "",
    certificate: CertificateOption = "",
    key: KeyOption = "",
    ae_title: AeTitleOption = "CBMIR",
    ae_port: AePortOption = None,
    viewer_url: Annotated[
        str,
        option(
            "--viewer-url",
            help="Address of a viewer, with {study}, {series} or {instance}, to which hits link; the index keeps it.",
            metavar="URL",
            show_default=False,
        ),
    ] = "",
    shards: Annotated[
        int | None, option("--shards", help="Shards of the collection.", min=1, rich_help_panel=_SERVER)
    ] = None,
    replicas: Annotated[
        int | None, option("--replicas", help="Copies of each shard.", min=1, rich_help_panel=_SERVER)
    ] = None,
    write_consistency: Annotated[
        int | None,
        option("--write-consistency", help="Copies that must confirm a write.", min=1, rich_help_panel=_SERVER),
    ] = None,
) -> None:
    """Index archives of DICOM, TIFF, PNG and JPEG files: what is new or changed, and nothing twice.

    Ray starts on this machine unless --ray-address names a cluster. A run that was stopped, or killed, is continued by
    the same command. Exit code 3 says that it is done but some files were left out: the report names each.
    """
    errors.as_json = log_json
    from cli.rendering.indexing_progress import run_job
    from cli.rendering.job_report import print_next, print_plan, print_report, summary
    from index.engines.layout import Layout
    from index.opening import resolve_model
    from model.network.bundled import find_model
    from model.network.heads import default_layers
    from workers.indexing.archives import resolve_archives
    from workers.indexing.job import index_archive
    from workers.indexing.preparing import plan_job
    from workers.indexing.reembedding import plan_reembedding
    from workers.indexing.reembedding import reembed as reembed_index
    from workers.indexing.settings import JobSettings, Machine, Privacy

    if report:
        _check_report(report, force=force)
    model = _one_model(models or [])
    if repair and (dry_run or reembed):
        other = "--dry-run" if dry_run else "--reembed"
        raise SettingError(f"--repair and {other} exclude each other: 'cbmir status --verify' says what is missing")
    named_layers = parse_layers(layers) if layers is not None else None
    stored = _stored(index, anew=reembed, patient=not dry_run)
    if reembed and not (stored or model):
        raise SettingError(f"{index} does not say which model made it: name the model with --model")
    path = find_model(model, named_layers or ()) if model or not stored else resolve_model(index, stored, None)
    certificates, entity = (authorities, certificate, key), (ae_title, ae_port)
    pacs = pacs_settings(where, since, rate, hours, connections, certificates, entity)
    settings = JobSettings(
        archives=tuple(resolve_archives(archives, _lines(), pacs.access)),
        model=path,
        index=index,
        layers=named_layers or (tuple(stored.layers) if stored else default_layers(path)),
        probe=reembed or not stored or bool(stored.probe),
        quantization=quantization or (stored.quantization if stored else "turbo4"),
        labels=labels,
        limit=limit,
        machine=Machine(
            runtime=runtime,
            actors=parse_range("--actors", actors),
            gpus=gpus,
            batch_size=batch_size,
            ray_address=ray_address,
            cpus=cpus,
            file_seconds=file_seconds,
            stall_seconds=60 * stall_timeout,
            debug=errors.debug,
        ),
        privacy=Privacy(
            paths=path_privacy or (stored.path_privacy if stored else "plain"),
            keep_patient_group=bool(stored and stored.patient_groups)
            if keep_patient_group is None
            else keep_patient_group,
            skip_burned_in=skip_burned_in,
        ),
        pacs=pacs,
        nested=not no_nested,
        retry_left_out=retry_left_out,
        repair=repair,
        prune=prune,
        moved_from=moved_from,
        report=report,
        layout=Layout(shards, replicas, write_consistency),
        viewer_url=viewer_url or (stored.viewer_url if stored else ""),
    )
    if dry_run:
        print_plan((plan_reembedding if reembed else plan_job)(settings), settings)
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
    output.print_prose(summary(result))
    if not stored and not log_json:
        print_next(settings)
    if result.anything_left_out:
        raise typer.Exit(EXIT_LEFT_OUT)


def _one_model(models: list[Path]) -> Path | None:
    """An index is made by one model, which may join several.

    Raises:
        SettingError: several are named.
    """
    if len(models) > 1:
        named = " ".join(map(str, models))
        raise SettingError(
            f"--model is given {len(models)} times: join them first, by 'cbmir model join {named} --name PAIR', and "
            "index with that"
        )
    return models[0] if models else None


def _check_report(path: Path, *, force: bool) -> None:
    """What stands against a report is said before the job, not after a night of it."""
    if path.is_dir():
        raise SettingError(f"--report {path} is a folder: name the file to write, such as {path / 'job.json'}")
    refuse_existing(path, "--report", force=force)


def _lines() -> Iterator[str]:
    """Lines of standard input; names that are not UTF-8 come through, to be left out by name."""
    if isinstance(sys.stdin, TextIOWrapper):
        sys.stdin.reconfigure(errors="surrogateescape")
    yield from sys.stdin


def _stored(address: Address, *, anew: bool, patient: bool) -> Any:
    """The description of an index that is there already, or ``None``; to make it anew, also one of an older schema.

    Raises:
        VectorIndexError: it is damaged. Nothing is guessed then: it may have hidden paths.
    """
    from index.home.description import read_description
    from index.opening import describe_index
    from workers.indexing.reembedding import building

    try:
        if not (anew and not address.server):
            return describe_index(address, patient=patient)
        folder = address.home
        if not folder.exists() and building(folder).exists():
            folder = building(folder)  # a call was killed while the one took the place of the other
        return read_description(folder, any_version=True)
    except NotAnIndexError:
        return None
