"""Answers to series: tables, records and sheets."""

from __future__ import annotations

import csv
import io
import json
from collections import Counter, defaultdict
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from PIL import Image
from rich.markup import escape

from cli.console import Terminal, printable
from cli.rendering.columns import Column, Row, print_paths
from cli.rendering.tables import shown_address
from index.answers.sheet import Tile
from index.answers.viewer import viewer_address
from index.answers.words import organ_text, stored_address
from index.query import SHOWN_DIGITS
from index.series import Match, SeriesAnswer, SeriesHit
from model.errors import ImageError
from model.images.reading import read_chosen

PAIRS = 5
"""Best matches of each series that a sheet shows."""

_HIT = (
    "rank",
    "score",
    "series_instance_uid",
    "study_instance_uid",
    "organ",
    "modality",
    "view",
    "near",
    "votes",
    "stored",
    "from_place",
    "to_place",
    "path",
)


def organ_by_slices(hit: SeriesHit) -> str:
    """The organ that most of the matched slices show; nothing of a model without classes."""
    organs = Counter(organ_text(match.hit.payload) for match in hit.matches)
    return organs.most_common(1)[0][0]


def print_series_answer(
    answer: SeriesAnswer, roots: tuple[str, ...], console: Terminal, viewer_url: str = "", *, locate: bool
) -> None:
    """One answer: its title, and a row a series; the id of its best match is what ``--like`` takes."""
    console.print(series_title(answer), soft_wrap=True)
    classed = any(hit.payload.organ for hit in answer.hits)
    columns = [Column("rank", right=True), Column("score", right=True)]
    columns += [*[Column("organ")] * classed, Column("modality"), Column("view"), Column("near", right=True)]
    columns += [Column("slices", right=True), *[Column("where", right=True)] * locate, Column("id")]
    rows = []
    for rank, hit in enumerate(answer.hits, 1):
        header = hit.payload.header
        cells = [str(rank), score_text(answer, hit), *[organ_by_slices(hit)] * classed]
        cells += [header.modality or "–", header.view or "–", f"{hit.near} of {len(answer.query.slices)}"]
        cells += [str(hit.stored) if hit.stored else "–", *[_where(hit)] * locate]
        best = hit.matches[0].hit.id
        cells += [best.hex[:SHOWN_DIGITS] if console.is_terminal else str(best)]
        path = shown_address(stored_address(roots, hit.payload.locations[0]))
        rows.append(Row(cells, path, "", viewer_address(viewer_url, hit.matches[0].hit)))
    print_paths(console, columns, rows)


def _where(hit: SeriesHit) -> str:
    return f"{hit.where[0]:.0%}–{hit.where[1]:.0%}" if hit.where else "–"


def score_text(answer: SeriesAnswer, hit: SeriesHit) -> str:
    """A distance, a number of votes, or a sum of reciprocal ranks."""
    return f"{hit.score:.0f}" if answer.pooling == "votes" else f"{hit.score:.3f}"


def series_title(answer: SeriesAnswer) -> str:
    """The query, how much of it was compared, and where was searched, as rich markup."""
    query = answer.query
    compared = f"{len(query.slices)} of {query.of} slices" if len(query.slices) < query.of else f"{query.of} slices"
    where = f"modality {query.slices[0].header.modality}" if answer.modalities else "the whole index"
    view = f", {query.slices[0].header.view}" if query.slices[0].header.view else ""
    return f"[bold]series {escape(printable(query.name))}[/]\n{compared}{view}; searched in {where} by {answer.layer}"


def series_json(answers: Sequence[SeriesAnswer], roots: tuple[str, ...], viewer_url: str = "") -> str:
    """A list with one object a query: its series, and of each the pairs of matched slices, the best first."""
    values = [
        {
            "series": answer.query.name,
            "slices": [{"path": one.name, "frame": one.frame, "id": str(one.id)} for one in answer.query.slices],
            "of": answer.query.of,
            "layer": answer.layer,
            "pooling": answer.pooling,
            "searched_modalities": list(answer.modalities),
            "hits": [
                _hit(rank, hit, roots, viewer_url) | {"pairs": [_pair(match, roots) for match in hit.matches]}
                for rank, hit in enumerate(answer.hits, 1)
            ],
        }
        for answer in answers
    ]
    return json.dumps(values, indent=1, ensure_ascii=False)


def series_csv(answers: Sequence[SeriesAnswer], roots: tuple[str, ...], viewer_url: str = "") -> str:
    """A row a series, the query in its first column."""
    text = io.StringIO()
    writer = csv.DictWriter(text, ("query", *_HIT, *(["viewer"] if viewer_url else [])))
    writer.writeheader()
    for answer in answers:
        for rank, hit in enumerate(answer.hits, 1):
            writer.writerow({"query": answer.query.name, **_hit(rank, hit, roots, viewer_url)})
    return text.getvalue()


def _hit(rank: int, hit: SeriesHit, roots: tuple[str, ...], viewer_url: str) -> dict[str, Any]:
    header, where = hit.payload.header, hit.where or (None, None)
    return {
        "rank": rank,
        "score": round(hit.score, 6),
        "series_instance_uid": header.series_instance_uid,
        "study_instance_uid": header.study_instance_uid,
        "organ": organ_by_slices(hit) or None,
        "modality": header.modality,
        "view": header.view,
        "near": hit.near,
        "votes": hit.votes,
        "stored": hit.stored or None,
        "from_place": None if where[0] is None else round(where[0], 4),
        "to_place": None if where[1] is None else round(where[1], 4),
        "path": stored_address(roots, hit.payload.locations[0]),
        **({"viewer": viewer_address(viewer_url, hit.matches[0].hit) or None} if viewer_url else {}),
    }


def _pair(match: Match, roots: tuple[str, ...]) -> dict[str, Any]:
    payload = match.hit.payload
    return {
        "slice": match.slice,
        "distance": round(match.hit.score, 6),
        "query_place": round(match.query_place, 4),
        "place": None if match.place is None else round(match.place, 4),
        "id": str(match.hit.id),
        "path": stored_address(roots, payload.locations[0]),
        "frame": payload.frame,
    }


def series_tiles(
    answer: SeriesAnswer, roots: tuple[str, ...], query_files: Sequence[str | None], viewer_url: str = ""
) -> list[list[Tile]]:
    """Two rows of tiles a hit: slices of the query, and below each the one of the series that it was matched with."""
    shown_pairs = [
        (rank, sorted(hit.matches[:PAIRS], key=lambda match: match.query_place))
        for rank, hit in enumerate(answer.hits, 1)
    ]
    pictures = _pictures(
        [
            *(
                (query_files[match.slice], answer.query.slices[match.slice].frame)
                for _, of in shown_pairs
                for match in of
            ),
            *((_file(match, roots), match.hit.payload.frame) for _, of in shown_pairs for match in of),
        ]
    )
    rows = []
    for rank, matches in shown_pairs:
        above, below = [], []
        for match in matches:
            one = answer.query.slices[match.slice]
            shown = pictures.get((query_files[match.slice], one.frame))
            above.append(Tile(shown, (f"query, {match.query_place:.0%} along", organ_text(one)), "query"))
            payload = match.hit.payload
            found = pictures.get((_file(match, roots), payload.frame))
            place = f"{match.place:.0%} along " if match.place is not None else ""
            caption = f"{rank}. {place}{organ_text(payload)}", f"distance {match.hit.score:.3f}"
            below.append(Tile(found, caption, "right", viewer_address(viewer_url, match.hit)))
        rows += [above, below]
    return rows


def _file(match: Match, roots: tuple[str, ...]) -> str:
    return stored_address(roots, match.hit.payload.locations[0])


def _pictures(wanted: Sequence[tuple[str | None, int]]) -> dict[tuple[str | None, int], Image.Image]:
    """The frames of files as displayed, each file read once; those that cannot be read are left out."""
    numbers: dict[str, set[int]] = defaultdict(set)
    for file, number in wanted:
        if file:
            numbers[file].add(number)
    found: dict[tuple[str | None, int], Image.Image] = {}
    for file, of in numbers.items():
        with suppress(ImageError):  # the file is gone, cannot be read, or has become shorter
            for frame in read_chosen(file, sorted(of)):
                found[file, frame.number] = Image.fromarray(frame.pixels)
    return found
