"""Answers as one HTML page that holds its pictures."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from typing import Any

from PIL import Image, ImageOps
from rich.text import Text

from cli.rendering.report.templates import render
from index.answers.sheet import TILE, Tile


def answer_page(titles: Sequence[str], rows: Sequence[Sequence[Tile]], index: str) -> str:
    """The page: a title (rich markup), then the query and its hits, for each answer."""
    answers = [
        {"title": Text.from_markup(title).plain.replace("\n", ": ", 1), "tiles": list(map(_picture, tiles))}
        for title, tiles in zip(titles, rows, strict=True)
    ]
    labelled = any(tile.state == "wrong" for tiles in rows for tile in tiles)
    return render("answers.html.j2", answers=answers, index=index, labelled=labelled)


def _picture(tile: Tile) -> dict[str, Any]:
    caption, detail = tile.caption
    return {
        "source": tile.picture and _data_address(tile.picture),
        "state": tile.state,
        "link": tile.link,
        "caption": caption,
        "detail": detail,
    }


def _data_address(picture: Image.Image) -> str:
    data = io.BytesIO()
    ImageOps.pad(picture, (TILE, TILE)).save(data, "JPEG", quality=85)
    return "data:image/jpeg;base64," + base64.b64encode(data.getvalue()).decode()
