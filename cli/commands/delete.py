"""``cbmir delete``: points out of an index, by what is known of them or by where their files lay."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Annotated

import typer

from cli.console import messages, output, printable
from cli.options import IndexOption, YesOption, option, parse_where
from model.errors import SettingError


def delete(
    index: IndexOption,
    where: Annotated[
        list[str] | None,
        option(
            "--where",
            help="Such as modality=CT; repeatable: either value of one field, and all of several fields.",
            metavar="FIELD=VALUE",
        ),
    ] = None,
    archive: Annotated[
        list[str] | None,
        option(
            "--archive",
            help="An indexed folder or file, or a part of one; it need not exist any more; repeatable.",
            metavar="PATH",
        ),
    ] = None,
    yes: YesOption = False,
) -> None:
    """Delete points from the index, by --where or by --archive; the files in the archive stay.

    With --where, a file that has no point left counts as left out: 'cbmir index' does not take it up again unless it
    changes, or with --retry-left-out. By --archive the index forgets the files: it is for an archive that has gone or
    moved, and 'cbmir index' takes up what it finds there again. Forget the old place before the new one is indexed,
    else the pictures that lie in both are done again.
    """
    if bool(where) == bool(archive):
        raise SettingError("name what to delete, either by --where or by --archive")
    if not yes and not sys.stdin.isatty():
        raise SettingError("nobody can be asked here whether to delete: add --yes")
    from index.upkeep.delete import delete_points, forget_archives

    if archive:

        def may_forget(files: Mapping[str, int]) -> bool:
            listed = ", ".join(f"{printable(name)}: {count:,}" for name, count in files.items())
            return yes or typer.confirm(f"Delete what {index} has of these files? {listed}", err=True)

        forgotten = forget_archives(index, archive, may=may_forget)
        output.print(f"{index} has forgotten {forgotten:,} files", soft_wrap=True, markup=False)
        return

    def tell(note: str) -> None:
        messages.print(note, soft_wrap=True, markup=False)

    def may(points: int) -> bool:
        return yes or typer.confirm(f"Delete {points:,} points from {index}?", err=True)

    deleted = delete_points(index, parse_where(where or []), may=may, tell=tell)
    output.print(f"{deleted:,} points deleted from {index}", soft_wrap=True, markup=False)
