"""Result sheets: query and hits side by side in one picture, as in the paper's Figs. 9 and 10."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from PIL import Image, ImageDraw, ImageFont, ImageOps

from index.answers.viewer import viewer_address
from index.answers.words import is_wrong, organ_text, probability_text, score_text, stored_address
from index.engines.engine import Hit
from index.search import Answer
from model.errors import ImageError
from model.images.reading import read_frames

TILE = 192
CAPTION = 46
GAP = 14
COLUMNS = 6

_BACKGROUND, _TEXT, _MUTED = (250, 250, 250), (25, 25, 25), (110, 110, 110)

State = Literal["query", "right", "wrong"]

_FRAMES: dict[State, tuple[tuple[int, int, int], int]] = {
    "query": ((30, 90, 200), 5),
    "right": ((200, 200, 200), 1),
    "wrong": ((214, 40, 40), 5),
}
"""Colour and width of the frame of each kind of tile."""


@dataclass(frozen=True, slots=True)
class Tile:
    """One picture of a sheet, with its caption.

    Attributes:
        picture: the picture; ``None`` if the file is gone or cannot be read.
        caption: two lines of text.
        state: the query, or a right or wrong hit; a hit whose true class is not known counts as right.
        link: where a viewer shows it; empty for nowhere.
    """

    picture: Image.Image | None
    caption: tuple[str, str]
    state: State
    link: str = ""

    @property
    def colour(self) -> tuple[int, int, int]:
        """RGB colour of the tile's border."""
        return _FRAMES[self.state][0]

    @property
    def width(self) -> int:
        """Width of the tile's border, in pixels."""
        return _FRAMES[self.state][1]


def picture(address: str, frame: int) -> Image.Image | None:
    """A frame as displayed, grey; ``None`` if the file is gone or cannot be read."""
    try:
        found = next(read_frames(address, only=frame), None)
    except ImageError:
        return None
    return None if found is None else Image.fromarray(found.pixels)


def stored_picture(roots: tuple[str, ...], hit: Hit) -> Image.Image | None:
    """A hit's picture, from where it lies; ``None`` if the file is gone or cannot be read."""
    return picture(stored_address(roots, hit.payload.locations[0]), hit.payload.frame)


def answer_tiles(
    answer: Answer, asked: Image.Image | None, show: Callable[[Hit], Image.Image | None], viewer_url: str = ""
) -> list[Tile]:
    """The query's tile, then one a hit; wrong-class hits are framed red where labels are known.

    Args:
        answer: what was found.
        asked: picture of the query.
        show: gives the picture of a hit.
        viewer_url: address of a viewer, as :mod:`index.answers.viewer` has it.
    """
    query = answer.query
    tiles = [Tile(asked, (f"query: {organ_text(query)}", probability_text(query)), "query")]
    for rank, hit in enumerate(answer.hits, 1):
        wrong = is_wrong(answer, hit)
        label = f" ({hit.payload.label})" if wrong and hit.payload.label != hit.payload.organ else ""
        tiles.append(
            Tile(
                show(hit),
                (f"{rank}. {organ_text(hit.payload)}{label}", f"{answer.measure} {score_text(answer, hit)}"),
                "wrong" if wrong else "right",
                viewer_address(viewer_url, hit),
            )
        )
    return tiles


def draw_sheet(rows: Sequence[Sequence[Tile]]) -> Image.Image:
    """One block of tiles a query, each of at most six columns."""
    font = ImageFont.load_default(14)
    blocks = [[tiles[n : n + COLUMNS] for n in range(0, len(tiles), COLUMNS)] for tiles in rows]
    lines = sum(len(block) for block in blocks)
    columns = max((len(line) for block in blocks for line in block), default=1)
    width = GAP + columns * (TILE + GAP)
    height = GAP + lines * (TILE + CAPTION + GAP) + (len(blocks) - 1) * GAP
    sheet = Image.new("RGB", (width, height), _BACKGROUND)
    draw = ImageDraw.Draw(sheet)
    top = GAP
    for block in blocks:
        for line in block:
            for column, tile in enumerate(line):
                _draw_tile(sheet, draw, font, tile, GAP + column * (TILE + GAP), top)
            top += TILE + CAPTION + GAP
        top += GAP
    return sheet


def _draw_tile(
    sheet: Image.Image,
    draw: ImageDraw.ImageDraw,
    font: ImageFont.FreeTypeFont | ImageFont.ImageFont,
    tile: Tile,
    left: int,
    top: int,
) -> None:
    box = (left - tile.width, top - tile.width, left + TILE + tile.width - 1, top + TILE + tile.width - 1)
    draw.rectangle(box, fill=tile.colour)
    draw.rectangle((left, top, left + TILE - 1, top + TILE - 1), fill=(0, 0, 0))
    if tile.picture is None:
        draw.text((left + TILE // 2, top + TILE // 2), "no picture at hand", fill=_MUTED, font=font, anchor="mm")
    else:
        fitted = ImageOps.contain(tile.picture, (TILE, TILE))
        sheet.paste(fitted, (left + (TILE - fitted.width) // 2, top + (TILE - fitted.height) // 2))
    for number, (text, colour) in enumerate(zip(tile.caption, (_TEXT, _MUTED), strict=True)):
        draw.text((left, top + TILE + 8 + number * 18), _fit(draw, text, font), fill=colour, font=font)


def _fit(draw: ImageDraw.ImageDraw, text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont) -> str:
    """The text, cut so that it stays under its own tile."""
    if draw.textlength(text, font=font) <= TILE:
        return text
    while text and draw.textlength(f"{text}…", font=font) > TILE:
        text = text[:-1]
    return f"{text}…"
