"""``cbmir backup`` and ``cbmir restore``: an index as one file, and back; a server's also as a snapshot there."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cli.console import messages, output
from cli.options import IndexOption, option
from index.address import ServerAddress
from model.errors import NotAnIndexError, SettingError


def backup(
    index: IndexOption,
    file: Annotated[
        str | None,
        typer.Argument(help="Tar file to write, also as s3://bucket/FILE; none for a server.", show_default=False),
    ] = None,
) -> None:
    """Write an index into one file, with its ledger, reports and privacy key: keep it as safe as the index.

    Of a server's index that is everything, too; without FILE the server writes a snapshot of its own, and keeps it.
    """
    from cli.rendering.progress import StageProgress
    from index.upkeep.backup import back_up

    if file is None:
        if index.server is None:
            raise SettingError("name the file to write: cbmir backup my-index.tar.gz --index ./my-index")
        _snapshot(index.server)
        return
    with StageProgress() as progress:
        made = back_up(index, file, progress=progress.update)
    output.print(f"{file} holds the {made.points:,} points of {index}", soft_wrap=True, markup=False)


def _snapshot(address: ServerAddress) -> None:
    from index.engines.snapshot import make_snapshot
    from index.sharing.collection import ledger_address

    for one in (ledger_address(address), address):  # the ledger must not know more than the points
        try:
            name = make_snapshot(one)
        except NotAnIndexError:
            if one == address:
                raise
            continue  # the index is of an earlier version, and no job has written to it since
        output.print(f"the server keeps {one} as the snapshot {name}", soft_wrap=True, markup=False)


def restore(
    files: Annotated[
        list[str],
        typer.Argument(
            help="A file that 'cbmir backup' wrote, or s3://bucket/FILE; or snapshots of a Qdrant server, one a node.",
            metavar="FILE",
        ),
    ],
    index: IndexOption,
    ledger: Annotated[
        Path | None,
        option(
            "--ledger",
            help="With snapshots: the folder of the jobs' ledger; without it one is made again from the points.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Unpack a backup into a new index, a folder or a server's collection, and see that it holds what it says."""
    from cli.rendering.progress import StageProgress
    from index.upkeep.backup import restore as restore_index
    from index.upkeep.server_snapshot import is_snapshot, restore_snapshots
    from model.images.sources import is_local

    named = ", ".join(files)
    if absent := [file for file in files if is_local(file) and not Path(file).is_file()]:
        raise SettingError(f"{absent[0]} does not exist")
    snapshots = [Path(file) for file in files if is_local(file) and is_snapshot(Path(file))]
    if (ledger or len(files) > 1) and (others := [file for file in files if Path(file) not in snapshots]):
        raise SettingError(
            f"{others[0]} is no snapshot of a server on this machine, to which --ledger and several files belong"
        )
    if snapshots:
        with StageProgress() as progress:
            copied = restore_snapshots(snapshots, index, ledger=ledger, progress=progress.update)
        output.print(f"{index} holds the {copied.points:,} points of {named}", soft_wrap=True, markup=False)
        if copied.rebuilt:
            messages.print_prose(f"no ledger came along: one was made again from the points, {copied.rebuilt}")
        return
    with StageProgress() as progress:
        progress.wait("unpacking and comparing")
        found = restore_index(files[0], index, progress=progress.update)
    output.print(f"{index} holds the {found.points:,} points of {files[0]}", soft_wrap=True, markup=False)
