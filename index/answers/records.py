"""Answers as JSON and CSV, for programs."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from typing import Any

from index.answers.viewer import viewer_address
from index.answers.words import is_wrong, stored_address
from index.engines.engine import Hit
from index.search import Answer

_HIT = (
    "rank",
    "distance",
    "score",
    "organ",
    "best_guess",
    "organ_probability",
    "label",
    "wrong_class",
    "modality",
    "body_part_examined",
    "frame",
    "path",
    "copies",
    "sop_instance_uid",
    "series_instance_uid",
    "study_instance_uid",
    "id",
)


def _rounded(probability: float | None) -> float | None:
    return None if probability is None else round(probability, 6)


def answers_json(answers: Sequence[Answer], roots: tuple[str, ...], viewer_url: str = "") -> str:
    """A list with one object a query: its prediction, and its hits, each with its viewer's address if there is one."""
    values = [
        {
            "query": answer.query.name,
            "frame": answer.query.frame,
            "organ": answer.query.organ,
            "best_guess": answer.query.best_guess,
            "organ_probability": _rounded(answer.query.organ_probability),
            "label": answer.query.label,
            "layers": list(answer.layers),
            "searched_organs": list(answer.organs),
            "class_is_empty": answer.class_is_empty,
            "searched_modalities": list(answer.modalities),
            "hits": [_hit(answer, rank, hit, roots, viewer_url) for rank, hit in enumerate(answer.hits, 1)],
        }
        for answer in answers
    ]
    return json.dumps(values, indent=1, ensure_ascii=False)


def answers_csv(answers: Sequence[Answer], roots: tuple[str, ...], viewer_url: str = "") -> str:
    """A row a hit, the query in its first column."""
    text = io.StringIO()
    columns = ("query", "query_organ", "query_best_guess", *_HIT, *(["viewer"] if viewer_url else []))
    writer = csv.DictWriter(text, columns)
    writer.writeheader()
    for answer in answers:
        for rank, hit in enumerate(answer.hits, 1):
            row = {
                "query": answer.query.name,
                "query_organ": answer.query.organ,
                "query_best_guess": answer.query.best_guess,
                **_hit(answer, rank, hit, roots, viewer_url),
            }
            row["copies"] = ";".join(row["copies"])
            writer.writerow(row)
    return text.getvalue()


def _hit(answer: Answer, rank: int, hit: Hit, roots: tuple[str, ...], viewer_url: str) -> dict[str, Any]:
    payload, header = hit.payload, hit.payload.header
    first, *copies = payload.locations
    return {
        "rank": rank,
        "distance": round(hit.score, 6) if answer.measure == "distance" else None,
        "score": None if answer.measure == "distance" else round(hit.score, 6),
        "organ": payload.organ,
        "best_guess": payload.best_guess,
        "organ_probability": payload.organ_probability,
        "label": payload.label,
        "wrong_class": is_wrong(answer, hit),
        "modality": header.modality,
        "body_part_examined": header.body_part_examined,
        "frame": payload.frame,
        "path": stored_address(roots, first),
        "copies": [stored_address(roots, copy) for copy in copies],
        "sop_instance_uid": header.sop_instance_uid,
        "series_instance_uid": header.series_instance_uid,
        "study_instance_uid": header.study_instance_uid,
        "id": str(hit.id),
        **({"viewer": viewer_address(viewer_url, hit) or None} if viewer_url else {}),
    }
