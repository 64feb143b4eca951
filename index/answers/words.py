"""What an answer says of its query and its hits, in the words that tables, sheets and pages share."""

from __future__ import annotations

from index.engines.engine import Hit
from index.query import Query
from index.schema import Location, Payload
from index.search import Answer
from model.images.sources import join
from model.network.calibration import UNKNOWN


def stored_address(roots: tuple[str, ...], location: Location) -> str:
    """Where a stored file lies, or lay when it was indexed: a path, or an address."""
    return join(roots[location.root], location.path)


def is_wrong(answer: Answer, hit: Hit) -> bool:
    """Whether the true classes of query and hit are both known, and differ."""
    return None not in (answer.query.label, hit.payload.label) and answer.query.label != hit.payload.label


def organ_text(of: Query | Payload) -> str:
    """The organ, or that it is unknown and what it resembles most; nothing of a model without classes."""
    return f"{UNKNOWN} ({of.best_guess}?)" if of.organ == UNKNOWN else of.organ or ""


def probability_text(of: Query | Payload) -> str:
    """How likely the likeliest class is; nothing of a model without classes."""
    return "" if of.organ_probability is None else f"{of.organ_probability:.1%}"


def score_text(answer: Answer, hit: Hit) -> str:
    """A hit's distance or score; the sums of reciprocal ranks are small numbers."""
    return f"{hit.score:.4f}" if answer.measure == "rank score" else f"{hit.score:.3f}"
