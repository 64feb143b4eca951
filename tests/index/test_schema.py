from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from index.schema import Location, Payload, point_id
from model.images.frames import Header

TEXT = st.text(min_size=1, max_size=20)
LOCATIONS = st.builds(Location, st.integers(0, 9), st.text(max_size=20))


@given(
    st.builds(
        Payload,
        organ=TEXT,
        best_guess=TEXT,
        organ_probability=st.floats(0, 1).map(lambda p: round(p, 6)),
        label=st.none() | TEXT,
        header=st.builds(Header, *[st.none() | TEXT] * 6),
        frame=st.integers(1, 9999),
        locations=st.lists(LOCATIONS, min_size=1, max_size=3).map(tuple),
    )
)
def test_payloads_survive_the_store(payload: Payload) -> None:
    values = payload.to_dict()
    assert Payload.from_dict(values) == payload
    assert None not in values.values()


def test_point_ids_are_stable_for_ever() -> None:
    # A changed id would double every point of every index at its next run.
    assert str(point_id("dicom/1.2.3/1/abc")) == "400ce27d-79e0-5b0b-b51c-3f90996cdf42"
    assert point_id("a") != point_id("b")


def test_no_patient_is_in_the_schema() -> None:
    fields = {*Payload.__dataclass_fields__, *Header.__dataclass_fields__}
    named = [name for name in fields if "patient" in name or "birth" in name or "accession" in name]
    assert named == ["patient_group"]  # a keyed hash, and only if it was asked for
