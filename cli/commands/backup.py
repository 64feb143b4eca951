"""``cbmir backup`` and ``cbmir restore``: an embedded index as one file, and back; a server's as a snapshot there."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cli.console import messages, output
from cli.options import IndexOption
from index.address import ServerAddress
from model.errors import SettingError


def backup(
    index: IndexOption,
    file: Annotated[
        Path | None, typer.Argument(help="Tar file to write; none for a server.", show_default=False)
    ] = None,
) -> None:
    """Write an index folder into one file, with its ledger, reports and privacy key: keep it as safe as the index.

    A server writes a snapshot of its own, and keeps it.
    """
    from cli.rendering.progress import StageProgress
    from index.upkeep.backup import back_up

    if file is None:
        if index.server is None:
            raise SettingError("name the file to write: cbmir backup my-index.tar.gz --index ./my-index")
        _snapshot(index.server, index.home)
        return
    with StageProgress() as progress:
        made = back_up(index, file, progress=lambda done, total: progress.update("writing", done, total))
    output.print(f"{file} holds the {made.points:,} points of {index}", soft_wrap=True, markup=False)


def _snapshot(address: ServerAddress, home: Path) -> None:
    from index.engines.snapshot import make_snapshot

    name = make_snapshot(address)
    output.print(f"the server keeps {address} as the snapshot {name}", soft_wrap=True, markup=False)
    messages.print(f"the job's ledger lies in {home}: keep it with the snapshot", soft_wrap=True, markup=False)


def restore(
    file: Annotated[Path, typer.Argument(help="A file that 'cbmir backup' wrote.")],
    index: IndexOption,
) -> None:
    """Unpack a backup into a new index folder, and see that it holds what it says."""
    from cli.rendering.progress import StageProgress
    from index.upkeep.backup import restore as restore_index

    with StageProgress() as progress:
        progress.wait("unpacking and comparing")
        found = restore_index(file, index)
    output.print(f"{index} holds the {found.points:,} points of {file}", soft_wrap=True, markup=False)
