"""``cbmir backup`` and ``cbmir restore``: an embedded index as one file, and back."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cli.console import output
from cli.options import IndexOption


def backup(
    file: Annotated[Path, typer.Argument(help="Tar file to write.")],
    index: IndexOption,
) -> None:
    """Write an index folder into one file, with its ledger, reports and privacy key: keep it as safe as the index."""
    from cli.rendering.progress import StageProgress
    from workers.backup import back_up

    with StageProgress() as progress:
        made = back_up(index, file, progress=lambda done, total: progress.update("writing", done, total))
    output.print(f"{file} holds the {made.points:,} points of {index}", soft_wrap=True)


def restore(
    file: Annotated[Path, typer.Argument(help="A file that 'cbmir backup' wrote.")],
    index: IndexOption,
) -> None:
    """Unpack a backup into a new index folder, and see that it holds what it says."""
    from workers.backup import restore as restore_index

    found = restore_index(file, index)
    output.print(f"{index} holds the {found.points:,} points of {file}", soft_wrap=True)
