from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import get_args

import numpy as np
import pytest

from index.address import parse_address
from index.engines.engine import Index
from index.opening import create_index
from index.query import Query
from index.schema import Location, Payload, Point, point_id
from index.search import Options
from index.series import Pooling, search_series
from index.series_query import SeriesQuery, series_from_index
from model.errors import SettingError
from model.images.frames import Header
from tests.index.conftest import WIDTH, describe

LENGTH = 20

POOLINGS: tuple[Pooling, ...] = get_args(Pooling)


def slices_of(kind: int, person: int, *, part: tuple[float, float] = (0, 1), reverse: bool = False) -> list[Point]:
    """A series whose slices' features tell what it is of, and where along it they are."""
    directions = np.random.default_rng(kind).normal(0, 1, (8, WIDTH))
    noise = np.random.default_rng([kind, person])
    points = []
    for number, place in enumerate(np.linspace(*part, LENGTH)):
        bumps = np.exp(-((place - np.linspace(0, 1, 8)) ** 2) / 0.02)
        feature = (bumps @ directions + noise.normal(0, 0.05, WIDTH)).astype(np.float16)
        uid = f"1.{kind}.{person}"
        slice_mm = 300 * (1 - place if reverse else place)
        header = Header(
            "CT", None, f"{uid}.{number}", uid, f"{uid}.0", view="axial", stack="s", slice_mm=round(slice_mm, 3)
        )
        payload = Payload("chest", "chest", 0.9, None, header, 1, (Location(0, f"{uid}/{number:03}.dcm"),))
        points.append(Point(point_id(f"{uid}/{number}"), payload, {"fcl1": feature}))
    return points


def query_of(points: list[Point], *, uid: str | None = None) -> SeriesQuery:
    chosen = points[1::2]
    queries = tuple(
        Query(
            name="query",
            frame=1,
            of=1,
            id=point_id(f"query/{n}"),
            header=replace(point.payload.header, series_instance_uid=uid, study_instance_uid=None),
            organ=None,
            best_guess=None,
            organ_probability=None,
            label=None,
            features=dict(point.vectors),
        )
        for n, point in enumerate(chosen)
    )
    places = tuple((2 * n + 1) / (len(points) - 1) for n in range(len(chosen)))
    return SeriesQuery(uid or "query", uid, queries, places, len(points))


@pytest.fixture
def index(tmp_path: Path) -> Iterator[Index]:
    """Four kinds of three persons each; the third's series is a part, the second's from head to foot."""
    with create_index(parse_address(tmp_path / "index"), describe(), purpose="test") as opened:
        for kind in range(4):
            for person in range(3):
                part = (0.3, 0.7) if person == 2 else (0.0, 1.0)
                opened.upsert(slices_of(kind, person, part=part))
        yield opened


@pytest.mark.parametrize("pooling", POOLINGS)
def test_series_of_the_same_kind_are_found_first(index: Index, pooling: Pooling) -> None:
    answer = search_series(index, query_of(slices_of(2, 9)), Options(top=3), pooling)
    assert {hit.uid for hit in answer.hits} == {"1.2.0", "1.2.1", "1.2.2"}
    scores = [hit.score for hit in answer.hits]
    assert scores == sorted(scores, reverse=pooling in {"votes", "ranks"})
    assert all(hit.votes >= hit.near > 0 for hit in answer.hits)


def test_slices_are_matched_with_those_of_their_place(index: Index) -> None:
    answer = search_series(index, query_of(slices_of(1, 9)), Options(top=2))
    for hit in answer.hits:
        assert hit.stored == LENGTH
        assert len(hit.matches) == 10
        assert hit.matches[0].hit.score == min(match.hit.score for match in hit.matches)
        for match in hit.matches:
            assert match.place == pytest.approx(match.query_place, abs=0.08)
        assert hit.where == pytest.approx((0.05, 1), abs=0.08)


def test_a_part_is_located(index: Index) -> None:
    answer = search_series(index, query_of(slices_of(1, 9, part=(0.5, 0.8))), Options(top=2))
    whole = next(hit for hit in answer.hits if hit.uid in {"1.1.0", "1.1.1"})
    assert whole.where == pytest.approx((0.5, 0.8), abs=0.08)


def test_a_series_in_the_other_order_is_farther_only_if_the_order_counts(index: Index) -> None:
    index.upsert(slices_of(3, 7, reverse=True))
    query = query_of(slices_of(3, 7))  # its very slices, but for their order
    late, ordered = (
        {hit.uid: hit.score for hit in search_series(index, query, Options(top=4), pooling).hits}
        for pooling in ("late", "ordered")
    )
    assert late["1.3.7"] == pytest.approx(0, abs=0.01)
    turned = slices_of(3, 8, reverse=True)
    index.upsert(turned)
    late, ordered = (
        {hit.uid: hit.score for hit in search_series(index, query, Options(top=5), pooling).hits}
        for pooling in ("late", "ordered")
    )
    # Another person's series, one in the same order and one from the other end: as near, but for the order.
    assert late["1.3.8"] == pytest.approx(late["1.3.0"], rel=0.1)
    assert ordered["1.3.8"] > 1.08 * ordered["1.3.0"]


def test_long_series_leave_room_for_others(tmp_path: Path) -> None:
    with create_index(parse_address(tmp_path / "long"), describe(), purpose="test") as index:
        for person in range(6):
            for part in range(20):
                low = part / 20
                index.upsert(
                    [
                        replace(point, id=point_id(f"{person}/{part}/{number}"))
                        for number, point in enumerate(slices_of(0, person, part=(low, low + 0.05)))
                    ]
                )
        assert index.count() == 6 * 400
        for pooling in POOLINGS:
            answer = search_series(index, query_of(slices_of(0, 9)), Options(top=6), pooling)
            assert len(answer.hits) == 6


def test_the_query_itself_is_left_out_and_filters_hold(index: Index) -> None:
    stored = series_from_index(index, "1.0.1", slices=5)
    assert (stored.of, len(stored.slices)) == (LENGTH, 5)
    assert stored.places == pytest.approx([2 / 19, 6 / 19, 10 / 19, 14 / 19, 18 / 19], abs=0.06)
    answer = search_series(index, stored, Options(top=3))
    assert "1.0.1" not in {hit.uid for hit in answer.hits}
    itself = search_series(index, stored, Options(top=3, exclude_same="none"))
    assert itself.hits[0].uid == "1.0.1"
    assert itself.hits[0].score == pytest.approx(0, abs=0.01)
    only = search_series(index, stored, Options(top=9, where={"series_instance_uid": ["1.3.0", "1.3.1"]}))
    assert {hit.uid for hit in only.hits} == {"1.3.0", "1.3.1"}
    nothing = search_series(index, stored, Options(top=9, where={"view": ["coronal"]}))
    assert nothing.hits == ()


def test_a_stored_series_is_named_by_one_of_its_pictures(index: Index) -> None:
    point, _ = next(iter(index.scroll()))
    assert series_from_index(index, point.hex[:8]).uid == index.retrieve([point])[point].header.series_instance_uid
    with pytest.raises(SettingError, match=r"holds no picture 9\.9"):
        series_from_index(index, "9.9")


def test_pictures_without_series_are_hits_of_their_own(index: Index) -> None:
    alone = slices_of(2, 9)[10]
    header = replace(alone.payload.header, series_instance_uid=None, slice_mm=None)
    index.upsert([Point(point_id("alone"), replace(alone.payload, header=header), alone.vectors)])
    answer = search_series(index, query_of(slices_of(2, 9)), Options(top=5))
    assert str(point_id("alone")) in {hit.uid for hit in answer.hits}
    assert answer.hits[0].uid != str(point_id("alone"))  # it is like one slice, and no more


def test_what_series_cannot_be_compared_by_is_said(index: Index) -> None:
    with pytest.raises(SettingError, match="compares one layer"):
        search_series(index, query_of(slices_of(0, 9)), Options(layers=("fcl1", "fcl1")))
