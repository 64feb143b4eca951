"""Pictures in the terminal, in whatever protocol it speaks (Kitty, Sixel, half blocks), by textual-image."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from typing import Any

import PIL.Image
from PIL import ImageOps
from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from index.answers.sheet import TILE, Tile

CELLS = 22
"""Width of a thumbnail in terminal columns."""


def terminal_picture(picture: PIL.Image.Image, width: int) -> RenderableType:
    """One picture, ``width`` terminal columns wide."""
    drawn: RenderableType = _image()(picture.convert("RGB"), width=width, height="auto")
    return drawn


def thumbnails(tiles: Sequence[Tile], console: Console) -> RenderableType:
    """The tiles in as many columns as the terminal has room for."""
    image = _image()
    columns = max(1, console.width // (CELLS + 2))
    grid = Table.grid(padding=(0, 2, 1, 0))
    cells: list[RenderableType] = []
    for tile in tiles:
        style = "#{:02x}{:02x}{:02x}".format(*tile.colour)
        caption = Text(
            "\n".join(tile.caption), style=style if tile.width > 1 else "", no_wrap=True, overflow="ellipsis"
        )
        if tile.picture is None:
            cells.append(Group(Text("no picture at hand"), caption))
        else:
            square = ImageOps.pad(tile.picture, (TILE, TILE)).convert("RGB")
            cells.append(Group(image(square, width=CELLS, height=CELLS // 2), caption))
    for _ in range(min(columns, len(cells))):
        grid.add_column(width=CELLS)
    for start in range(0, len(cells), columns):
        grid.add_row(*cells[start : start + columns])
    return grid


def _image() -> type[Any]:
    """How the terminal shows pictures, which it is asked when this is imported; without colours by shades alone."""
    # It warns, with a traceback, of terminals that do not say how large their characters are, and takes a usual size.
    logging.getLogger("textual_image").setLevel(logging.ERROR)
    from textual_image.renderable import Image, UnicodeImage

    return UnicodeImage if os.environ.get("NO_COLOR") else Image
