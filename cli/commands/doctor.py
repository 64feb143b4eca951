"""``cbmir doctor``: what this machine has, what it lacks, and what to do about it."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cli.console import errors, noise_aside, output
from cli.options import option
from index.address import Address, parse_address

if TYPE_CHECKING:
    from model.diagnosis import Check

_STYLES = {"fine": "green", "note": "yellow", "lacking": "bold red"}


def doctor(
    index: Annotated[
        Address | None,
        option(
            "--index",
            "-i",
            help="Index folder, or address of a Qdrant server.",
            metavar="FOLDER|URL",
            parser=parse_address,
            show_default=False,
        ),
    ] = None,
    api_key: Annotated[str | None, option("--index-api-key", help="Key of that server.", show_default=False)] = None,
    ray_address: Annotated[str | None, option("--ray-address", help="Look at this Ray cluster.")] = None,
    pacs: Annotated[
        str | None, option("--pacs", help="Ask this PACS something small.", metavar="ADDRESS", show_default=False)
    ] = None,
) -> None:
    """Look at decoders, PyTorch, Ray, Qdrant and the disk. Exit code 1 if something stands in the way of work."""
    lacking = False
    for check in _checks(index, api_key, ray_address, pacs):
        lacking |= check.state == "lacking"
        _print(check)
    if lacking:
        raise typer.Exit(1)


def _checks(index: Address | None, api_key: str | None, ray_address: str | None, pacs: str | None) -> Iterator[Check]:
    from index.diagnosis import check_disk, check_engine, check_server
    from model.diagnosis import Check, check_decoders, check_torch
    from model.pacs.diagnosis import check_pacs
    from workers.diagnosis import check_ray, check_shared_memory

    yield Check("Python", "fine", f"{platform.python_version()}, {os.cpu_count()} cores")
    yield from check_decoders()
    yield from check_torch()
    yield from check_engine()
    if index and index.server:
        yield from check_server(index.server, api_key)
    if pacs:
        yield check_pacs(pacs)
    yield from check_disk(index.home if index and not index.server else Path.cwd())
    yield from check_shared_memory()
    with nullcontext() if errors.debug else noise_aside("Ray"):
        ray = list(check_ray(ray_address))  # before it is printed, as nothing is inside this context
    yield from ray


def _print(check: Check) -> None:
    from rich.markup import escape

    style = _STYLES[check.state]
    output.print(f"[{style}]{check.state:<8}[/] {escape(check.name)}: {escape(check.detail)}", soft_wrap=True)
    if check.advice:
        output.print(f"         → {escape(check.advice)}", soft_wrap=True)
