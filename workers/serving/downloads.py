"""An answer as a picture to keep: the query and its hits side by side."""

from __future__ import annotations

import io
from collections.abc import Callable
from functools import partial

from PIL import Image

from index.answers.sheet import TILE, answer_tiles, draw_sheet
from model.errors import CbmirError
from workers.serving.question import Question
from workers.serving.retrieval import Retrieval, Shown


def answer_sheet(retrieval: Retrieval, question: Question, shown: Shown) -> bytes:
    """The sheet as PNG; its pictures are read in processes apart, as all others are."""
    query = shown.answer.query

    def asked() -> bytes:
        if question.upload:
            return retrieval.upload_picture(question.chosen, query.frame, TILE, question.crop)
        return retrieval.point_picture(str(query.id), TILE, question.crop)

    tiles = answer_tiles(
        shown.answer, _picture(asked), lambda hit: _picture(partial(retrieval.point_picture, str(hit.id), TILE))
    )
    data = io.BytesIO()
    draw_sheet([tiles]).save(data, "PNG")
    return data.getvalue()


def _picture(read: Callable[[], bytes]) -> Image.Image | None:
    """The picture that is read; ``None`` if it is gone, or not to be shown, which its tile then says."""
    try:
        return Image.open(io.BytesIO(read()))
    except CbmirError:
        return None
