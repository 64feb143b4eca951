"""``cbmir delete``: points out of an index, by what is known of them."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from cli.console import output
from cli.options import IndexOption, YesOption, option, parse_where
from model.errors import SettingError


def delete(
    index: IndexOption,
    where: Annotated[
        list[str] | None,
        option("--where", help="FIELD=VALUE, as series_instance_uid=1.2.3; repeatable, all must agree."),
    ] = None,
    archive: Annotated[
        str | None,
        option("--archive", help="An indexed folder or file, or a part of it, there or not.", metavar="PATH"),
    ] = None,
    yes: YesOption = False,
) -> None:
    """Delete points from the index, by --where or by --archive; the files in the archive stay.

    By --where a file without any point left counts as left out: 'cbmir index' does not take it up again unless it
    changes, or with --retry-left-out. By --archive the index forgets the files: it is for an archive that has gone or
    moved, and 'cbmir index' takes up what it finds there again.
    """
    from workers.removal import delete_points, forget_archive

    if not yes and not sys.stdin.isatty():
        raise SettingError("nobody can be asked here whether to delete: add --yes")

    if bool(where) == bool(archive):
        raise SettingError("name what to delete, either by --where or by --archive")
    kind = "files" if archive else "points"

    def may(count: int) -> bool:
        return yes or typer.confirm(f"Delete {count:,} {kind} from {index}?", err=True)

    deleted = (
        forget_archive(index, archive, may=may) if archive else delete_points(index, parse_where(where or []), may=may)
    )
    output.print(f"{deleted:,} {kind} deleted from {index}", soft_wrap=True, markup=False)
