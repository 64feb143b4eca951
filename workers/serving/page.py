"""The page, made on the server: a question, its answer, and the addresses of all that may be asked next."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any, Final, Literal

from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template

from index.answers.viewer import viewer_address
from index.answers.words import is_wrong, organ_text, probability_text, score_text, stored_address
from index.engines.engine import Hit
from index.query import SHOWN_DIGITS
from model.errors import CbmirError
from model.network.calibration import UNKNOWN
from workers.serving.question import Question
from workers.serving.retrieval import Retrieval, Shown
from workers.serving.settings import ServingSettings

FILES: Final = Path(__file__).with_name("page_files")

_TITLES: Final = {
    "organ": "Organ",
    "modality": "Modality",
    "body_part_examined": "Body part",
    "label": "Label",
    "view": "View",
}
_MOST_VALUES = 40


def render_page(settings: ServingSettings, retrieval: Retrieval, question: Question, shown: Shown | None) -> str:
    """The whole page of a question, or of none."""
    answer = shown.answer if shown else None
    return _template("page.html.j2").render(
        index=str(settings.index),
        question=question,
        hidden=_hidden(question),
        description=retrieval.description,
        filters=_filters(retrieval, question),
        asked=_asked(question, shown) if shown else None,
        notes=shown.notes if shown else (),
        hits=[_hit(settings, retrieval, question, shown, rank, hit) for rank, hit in enumerate(answer.hits, 1)]
        if shown and answer
        else [],
        answer=answer,
        farthest=max((hit.score for hit in answer.hits), default=0.0) if answer else 0.0,
        shows_pictures=retrieval.shows_pictures,
        downloads={kind: question.address(f"/answer.{kind}") for kind in ("csv", "json", "png")},
    )


def render_error(sentence: str) -> str:
    """A page with one sentence, and the way back."""
    return _template("error.html.j2").render(sentence=sentence)


def _asked(question: Question, shown: Shown) -> dict[str, Any]:
    answer, query = shown.answer, shown.answer.query
    if question.upload:
        source = f"/uploads/{question.chosen}?frame={query.frame}&side=512"
    else:
        source = f"/api/points/{query.id}/image?side=512"
    return {
        "name": query.name,
        "source": source,
        "organ": organ_text(query) or "the model tells no classes apart",
        "unknown": query.organ == UNKNOWN,
        "best_guess": query.best_guess,
        "probability": probability_text(query),
        "where": answer.searched,
        "frame": query.frame,
        "frames": query.of or 1,
        "label": query.label,
        "modality": query.header.modality,
        "others": [
            {"number": number + 1, "address": question.address(at=number, frame=0, crop=""), "key": key}
            for number, key in enumerate(question.upload)
        ]
        if len(question.upload) > 1
        else [],
        "more": [_example(question, "like", uid) for uid in (question.like if question.upload else question.like[1:])],
        "less": [_example(question, "less", uid) for uid in question.less],
        "whole": question.address(crop=""),
    }


def _example(question: Question, field: Literal["like", "less"], uid: str) -> dict[str, str]:
    rest = [one for one in getattr(question, field) if one != uid]
    return {"id": uid, "without": question.address(like=rest) if field == "like" else question.address(less=rest)}


def _hit(
    settings: ServingSettings, retrieval: Retrieval, question: Question, shown: Shown, rank: int, hit: Hit
) -> dict[str, Any]:
    payload, uid = hit.payload, str(hit.id)
    return {
        "id": uid,
        "short": hit.id.hex[:SHOWN_DIGITS],
        "rank": rank,
        "score": score_text(shown.answer, hit),
        "value": hit.score,
        "organ": organ_text(payload),
        "probability": probability_text(payload),
        "label": payload.label,
        "wrong": is_wrong(shown.answer, hit),
        "header": payload.header,
        "frame": payload.frame,
        "path": stored_address(shown.roots, payload.locations[0]),
        "copies": len(payload.locations) - 1,
        "source": f"/api/points/{uid}/image" if retrieval.shows_pictures else "",
        "alone": question.address(upload=[], at=0, like=[uid], less=[], frame=0, crop="", within=None),
        "more": question.address(
            like=[*question.like, uid], less=[one for one in question.less if one != uid], within=None
        ),
        "less": question.address(less=[*question.less, uid], within=None),
        "viewer": viewer_address(settings.viewer_url, hit),
    }


def _filters(retrieval: Retrieval, question: Question) -> list[dict[str, Any]]:
    """The fields to filter by, with the number of pictures of each value; none while the index is away for a moment."""
    try:
        counts = retrieval.facets()
    except CbmirError:
        counts = {}
    filters = []
    for name, values in counts.items():
        chosen = getattr(question, name)
        shown = dict(list(values.items())[:_MOST_VALUES]) | {one: values.get(one, 0) for one in chosen}
        options = [{"value": value, "count": count, "chosen": value in chosen} for value, count in shown.items()]
        filters.append({"name": name, "title": _TITLES[name], "options": options, "open": bool(chosen)})
    return filters


def _hidden(question: Question) -> list[tuple[str, str]]:
    """What the form of the filters must send along: the pictures asked with."""
    kept = {"upload", "at", "like", "less", "crop", "frame", "layer", "exact"}
    return [pair for pair in question.parameters() if pair[0] in kept]


@cache
def _environment() -> Environment:
    return Environment(
        loader=FileSystemLoader(FILES),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
    )


def _template(name: str) -> Template:
    return _environment().get_template(name)
