"""``cbmir upgrade``: an index of an earlier version, brought up to date by its files' headers."""

from __future__ import annotations

import typer

from cli.console import EXIT_LEFT_OUT, messages, output
from cli.options import IndexOption

MOST_NAMED = 20
"""Files that are named, of those that cannot be read: an archive that has gone would name all."""


def upgrade(index: IndexOption) -> None:
    """Add to an index what later versions store: the view of each slice, and its place in its stack.

    Only the headers of DICOM files are read, and nothing is embedded again. It goes on where it was cut off. Exit code
    3: some files cannot be read any more, and are named.
    """
    from cli.rendering.progress import StageProgress
    from index.upkeep.upgrade import upgrade_index

    named: list[str] = []

    def name(what: str) -> None:
        if len(named) < MOST_NAMED:
            named.append(what)
            messages.print(f"left out: {what}", soft_wrap=True, markup=False)

    with StageProgress() as progress:
        done = upgrade_index(
            index, progress=lambda files, total: progress.update("reading headers", files, total), left_out=name
        )
    if more := done.left_out - len(named):
        messages.print(f"left out: {more:,} files more: is the archive where it was?", soft_wrap=True, markup=False)
    read = f"the headers of {done.files:,} files were read"
    output.print(f"{index}: {done.points:,} points know their place now, {read}", soft_wrap=True, markup=False)
    if done.left_out:
        raise typer.Exit(EXIT_LEFT_OUT)
