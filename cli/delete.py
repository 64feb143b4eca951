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
        list[str], option("--where", help="FIELD=VALUE, as series_instance_uid=1.2.3; repeatable, all must agree.")
    ],
    yes: YesOption = False,
) -> None:
    """Delete the points that match from the index; the files in the archive stay.

    A file without any point left counts as left out: 'cbmir index' does not take it up again unless it changes, or with
    --retry-left-out.
    """
    from workers.removal import delete_points

    if not yes and not sys.stdin.isatty():
        raise SettingError("nobody can be asked here whether to delete: add --yes")

    def may(points: int) -> bool:
        return yes or typer.confirm(f"Delete {points:,} points from {index}?", err=True)

    deleted = delete_points(index, parse_where(where), may=may)
    output.print(f"{deleted:,} points deleted from {index}", soft_wrap=True, markup=False)
