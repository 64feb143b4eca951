"""``cbmir copy``: an index from a folder to a server, or back, without computing an embedding again."""

from __future__ import annotations

from typing import Annotated

import typer

from cli.console import messages, output
from cli.options import option
from index.address import Address, parse_address


def copy(
    source: Annotated[
        Address,
        typer.Argument(help="Index folder, or http://HOST:6333/COLLECTION.", parser=parse_address, metavar="SOURCE"),
    ],
    target: Annotated[
        Address,
        typer.Argument(help="New index: folder or server address.", parser=parse_address, metavar="TARGET"),
    ],
    shards: Annotated[int | None, option("--shards", help="Shards of a server's new collection.", min=1)] = None,
    replicas: Annotated[int | None, option("--replicas", help="Copies of each of its shards.", min=1)] = None,
    write_consistency: Annotated[
        int | None, option("--write-consistency", help="Copies that must confirm a write.", min=1)
    ] = None,
) -> None:
    """Copy an index with its ledger into another engine, and compare both at the end.

    An interrupted copy is continued by the same command. The source stays as it is.
    """
    from cli.rendering.progress import StageProgress
    from index.engines.layout import Layout
    from index.upkeep.copy import copy_index

    with StageProgress() as progress:
        progress.wait("opening both indexes")
        result = copy_index(
            source, target, layout=Layout(shards, replicas, write_consistency), progress=progress.update
        )
    output.print(
        f"{target} holds the {result.points:,} points of {source}, {result.moved:,} of them moved now; ids and "
        f"payloads are equal, and so are the {result.vectors_compared:,} vectors that were compared",
        soft_wrap=True,
        markup=False,
    )
    if result.rebuilt:
        messages.print_prose(f"no ledger came along: one was made again from the points, {result.rebuilt}")
