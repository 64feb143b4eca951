from __future__ import annotations

from dataclasses import replace
from uuid import UUID

import numpy as np
import pytest

from index.engines.engine import Index
from index.query import Query, query_from_stored
from index.search import Options, Same, search
from model.errors import ModelMismatchError, SettingError
from model.network.calibration import UNKNOWN
from tests.index.conftest import make_points


@pytest.fixture
def query(index: Index) -> Query:
    return query_from_stored(index, str(make_points(1)[0].id))


def test_class_prediction_restricts_to_the_predicted_class(index: Index, query: Query) -> None:
    answer = search(index, query, Options(top=60, any_modality=True))
    assert answer.organs == ("brain",)
    assert answer.modalities == ()
    assert {hit.payload.organ for hit in answer.hits} == {"brain"}
    # It filters the stored prediction, not the label: a wrongly labelled neighbour stays.
    assert {hit.payload.label for hit in answer.hits} == {"brain", "chest"}


def test_where_nothing_is_of_the_predicted_class_the_whole_index_counts(index: Index, query: Query) -> None:
    nobody = replace(query, organ="spleen")
    answer = search(index, nobody, Options(where={"label": ["brain"]}, any_modality=True))
    assert (answer.organs, answer.class_is_empty) == ((), True)
    assert {hit.payload.label for hit in answer.hits} == {"brain"}
    assert answer.searched == "the whole index (nothing was found in class spleen)"
    named = Options(organs=(UNKNOWN,), where={"label": ["brain"]}, any_modality=True)
    assert search(index, nobody, named).hits == ()  # who names a class is not answered with another
    nothing = search(index, nobody, Options(where={"label": ["nowhere"]}))
    assert (nothing.hits, nothing.class_is_empty) == ((), False)


def test_without_class_prediction_the_whole_index_counts(index: Index, query: Query) -> None:
    answer = search(index, query, Options(top=60, organs=(), any_modality=True))
    assert answer.organs == ()
    assert len(answer.hits) == 59
    assert [hit.score for hit in answer.hits] == sorted(hit.score for hit in answer.hits)


def test_for_an_unknown_query_the_whole_index_counts(index: Index, query: Query) -> None:
    answer = search(index, replace(query, organ=UNKNOWN), Options(top=60, any_modality=True))
    assert (answer.organs, len(answer.hits)) == ((), 59)
    assert search(index, query, Options(organs=(UNKNOWN,))).hits == ()


@pytest.mark.parametrize(
    ("stated", "found"),
    [
        ("MR", {"MR"}),
        ("CT", {"CT"}),
        ("XA", {"MR", "CT", None, "OT"}),  # the index has none of that kind
        ("OT", {"MR", "CT", None, "OT"}),
        (None, {"MR", "CT", None, "OT"}),
    ],
)
def test_hits_are_of_the_kind_that_the_querys_header_says(
    index: Index, query: Query, stated: str | None, found: set[str | None]
) -> None:
    for point, modality in zip(make_points(60)[-4:], (None, "OT", None, "OT"), strict=True):
        header = replace(point.payload.header, modality=modality)
        index.set_payload(point.id, replace(point.payload, header=header))
    asked = replace(query, header=replace(query.header, modality=stated))
    answer = search(index, asked, Options(top=60, organs=()))
    assert {hit.payload.header.modality for hit in answer.hits} == found
    assert answer.modalities == (("MR", "MA", "MS") if stated == "MR" else ("CT",) if stated == "CT" else ())
    if stated == "MR":  # there are some of that kind, though none that may be found
        nothing = search(index, asked, Options(organs=(), where={"label": ["nowhere"]}))
        assert (nothing.hits, nothing.modalities) == ((), ("MR", "MA", "MS"))
    named = search(index, asked, Options(top=60, organs=(), where={"modality": ["CT"]}))
    assert {hit.payload.header.modality for hit in named.hits} == {"CT"}


def test_named_organs_and_filters(index: Index, query: Query) -> None:
    answer = search(index, query, Options(top=60, organs=("chest", "knee"), where={"modality": ["CT"]}))
    assert {(hit.payload.organ, hit.payload.header.modality) for hit in answer.hits} == {
        ("chest", "CT"),
        ("knee", "CT"),
    }
    narrowed = search(index, query, Options(top=60, organs=("chest", "knee"), where={"organ": ["knee"]}))
    assert {hit.payload.organ for hit in narrowed.hits} == {"knee"}


def test_the_query_is_not_its_own_best_hit(index: Index, query: Query) -> None:
    def found(same: Same) -> list[str | None]:
        options = Options(top=60, organs=(), any_modality=True, exclude_same=same)
        return [hit.payload.header.series_instance_uid for hit in search(index, query, options).hits]

    series = query.header.series_instance_uid
    assert found("none").count(series) == 4
    assert search(index, query, Options(exclude_same="none")).hits[0].id == query.id
    assert found("self").count(series) == 3
    assert series not in found("series")
    assert len(found("study")) == 56


def test_one_best_hit_a_series(index: Index, query: Query) -> None:
    every = search(index, query, Options(top=60, organs=())).hits
    grouped = search(index, query, Options(top=7, organs=(), group_by="series")).hits
    series = [hit.payload.header.series_instance_uid for hit in grouped]
    assert len(set(series)) == 7
    first: dict[str | None, UUID] = {}
    for hit in every:
        first.setdefault(hit.payload.header.series_instance_uid, hit.id)
    assert [hit.id for hit in grouped] == list(first.values())[:7]
    assert len(search(index, query, Options(top=50, organs=(), group_by="series")).hits) == 15


def test_what_cannot_be_answered_is_refused(index: Index, query: Query) -> None:
    for options, error, message in (
        (Options(layers=("fcl2",)), ModelMismatchError, "stores fcl1, not fcl2"),
        (Options(organs=("spleen",)), SettingError, "no organ 'spleen'"),
        (Options(where={"patient": ["x"]}), SettingError, "no field 'patient'"),
        (Options(top=0), SettingError, "asks for nothing"),
    ):
        with pytest.raises(error, match=message):
            search(index, query, options)


def test_stored_pictures_are_found_by_each_of_their_uids(index: Index) -> None:
    point = make_points(5)[4]
    header = point.payload.header
    for uid in (str(point.id), header.sop_instance_uid):
        assert uid
        query = query_from_stored(index, uid)
        assert query.id == point.id
        assert (query.features["fcl1"] == point.vectors["fcl1"]).all()
    assert header.series_instance_uid
    assert query_from_stored(index, header.series_instance_uid).header.series_instance_uid == header.series_instance_uid
    with pytest.raises(SettingError, match=r"no picture 9\.9\.9"):
        query_from_stored(index, "9.9.9")
    with pytest.raises(SettingError, match="no picture"):
        query_from_stored(index, header.sop_instance_uid or "", frame=3)


def test_a_query_without_a_series_excludes_only_itself(index: Index, query: Query) -> None:
    bare = replace(query, header=replace(query.header, series_instance_uid=None))
    assert len(search(index, bare, Options(top=60, organs=(), any_modality=True, exclude_same="series")).hits) == 59
    assert np.isfinite([hit.score for hit in search(index, bare).hits]).all()
