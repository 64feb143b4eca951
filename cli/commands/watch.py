"""``cbmir watch``: what arrives in an archive is found minutes later."""

from __future__ import annotations

import time
from contextlib import ExitStack
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cli.console import errors, output, sentence
from cli.options import IndexOption, NoNestedOption, RuntimeName, SkipBurnedInOption, option, parse_range
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
    parse_every,
)
from index.address import Address
from model.errors import CbmirError, IndexLockedError, Interrupted, SettingError, was_interrupted

if TYPE_CHECKING:
    from workers.indexing.settings import JobSettings


def watch(
    archives: Annotated[
        list[str], typer.Argument(metavar="ARCHIVE", help="Folders, fsspec addresses, or a PACS, as for 'cbmir index'.")
    ],
    index: IndexOption,
    every: Annotated[str, option("--every", help="How often to look, as 30s, 5m or 2h.", metavar="TIME")] = "5m",
    model: Annotated[
        Path | None, option("--model", "-m", help="Model of a new index [the bundled one].", show_default=False)
    ] = None,
    prune: Annotated[bool, option("--prune", help="Remove what is gone from the archive; needs --yes.")] = False,
    yes: Annotated[bool, option("--yes", "-y", help="Remove without asking.")] = False,
    skip_burned_in: SkipBurnedInOption = False,
    no_nested: NoNestedOption = False,
    runtime: Annotated[RuntimeName, option("--runtime", help="What computes the network.")] = "torch",
    actors: Annotated[str | None, option("--actors", help="Embedding actors.", metavar="N|MIN:MAX")] = None,
    ray_address: Annotated[
        str | None, option("--ray-address", help="Join this Ray cluster.", metavar="HOST:PORT|auto")
    ] = None,
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
) -> None:
    """Index archives again and again, what is new or changed each time, until Ctrl-C.

    A job that fails, as when the archive cannot be reached, is named, and the next look tries again. Between two looks
    the index is free for others; a second watcher of the same index is refused.
    """
    from workers.indexing.settings import JobSettings, Machine, Privacy

    pause = parse_every(every)
    if prune and not yes:
        raise SettingError("--prune removes points, and nobody can be asked at night: add --yes")
    certificates, entity = (authorities, certificate, key), (ae_title, ae_port)
    settings = JobSettings(
        archives=tuple(archives),
        index=index,
        model=model,
        prune=prune,
        machine=Machine(
            runtime=runtime, actors=parse_range("--actors", actors), ray_address=ray_address, debug=errors.debug
        ),
        pacs=pacs_settings(where, since, rate, hours, connections, certificates, entity),
        privacy=Privacy(skip_burned_in=skip_burned_in),
        nested=not no_nested,
    )
    with ExitStack() as stack:
        watching = _only_one(index, stack)
        while True:
            _look(settings, first=not watching)
            watching = watching or _only_one(index, stack)
            output.print_prose(f"next look at {datetime.now() + pause:%H:%M:%S}, Ctrl-C to end")  # noqa: DTZ005 (a person's clock)
            time.sleep(pause.total_seconds())


def _only_one(index: Address, stack: ExitStack) -> bool:
    """Hold the watchers' lock of an index, once it is there.

    Raises:
        IndexLockedError: another watcher has it.
    """
    from filelock import FileLock, Timeout

    from index.ledger import NAME

    if not (index.home / NAME).exists():  # a folder that holds a lock alone is no place for an index
        return False
    try:
        stack.enter_context(FileLock(index.home / "watch.lock", timeout=0))
    except Timeout as error:
        raise IndexLockedError(f"another 'cbmir watch' looks after {index}: end that one first") from error
    return True


def _look(settings: JobSettings, *, first: bool) -> None:
    """One job; whatever it fails for is said, and no end of the watch, unless there is no index yet.

    Raises:
        Exception: the first job failed, and has made no index; any, with ``--debug``, for its traceback.
    """
    from dataclasses import replace

    from cli.rendering.indexing_progress import run_job
    from cli.rendering.job_report import print_report, summary
    from index.opening import describe_index
    from model.errors import NotAnIndexError
    from model.network.bundled import find_model
    from model.network.heads import default_layers
    from workers.indexing.job import index_archive

    try:
        try:
            stored = describe_index(settings.index, patient=False)
        except NotAnIndexError:
            path = find_model(settings.model)
            settings = replace(settings, model=path, layers=default_layers(path))
        else:
            settings = replace(
                settings,
                model=find_model(settings.model) if settings.model else None,
                layers=tuple(stored.layers),
                quantization=stored.quantization,
                probe=bool(stored.probe),
                privacy=replace(settings.privacy, paths=stored.path_privacy, keep_patient_group=stored.patient_groups),
                viewer_url=stored.viewer_url,
            )
        result = run_job(index_archive, settings, yes=True, log_json=False, metrics=None)
    except Exception as error:  # a full disk, or a library's own error, at night: the next look may fare better
        unexpected = not isinstance(error, CbmirError)
        no_index = first and not settings.index.home.is_dir()
        if was_interrupted(error) or isinstance(error, Interrupted) or no_index or (unexpected and errors.debug):
            raise
        errors.show(sentence(error))
        return
    if result.anything_left_out:
        print_report(result, settings)
    output.print_prose(f"{datetime.now():%H:%M:%S}  {summary(result)}")  # noqa: DTZ005 (a person's clock)
