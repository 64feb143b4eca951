from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from model.dataset import plan as planning
from model.dataset.catalogue import series_of_classes
from model.dataset.plan import CENTRAL, plan_dataset, read_plan, summarise
from model.dataset.series_queries import SeriesQuery, read_queries
from model.dataset.tables import write_table
from model.errors import DatasetError

NAMES_OF_LOCALIZERS = re.compile(r"localizer|scout|topogram|surview|3.?plane", re.IGNORECASE)


@pytest.fixture(scope="module")
def paper24() -> pd.DataFrame:
    """The plan of the real archive's index."""
    return plan_dataset(read_queries("paper24"), per_class=60, seed=0)


def test_the_papers_classes_are_planned(paper24: pd.DataFrame) -> None:
    summary = {one.label: one for one in summarise(paper24, 60)}
    assert set(summary) == set(read_queries("paper24"))
    assert all(one.slices == 60 for one in summary.values())
    assert [one.label for one in summary.values() if any("patients" in remark for remark in one.remarks)] == ["thyroid"]
    assert summary["brain"].patients == 60  # patients first
    assert not paper24["series"].duplicated().any()
    assert set(paper24["licence"]) <= {"CC BY 3.0", "CC BY 4.0"}
    images = paper24[paper24["label"] != "phantom"]
    assert not images["description"].map(NAMES_OF_LOCALIZERS.search).any()
    assert set(paper24["modality"]) == {"CT", "MR", "PT"}
    assert paper24["address"].str.fullmatch(r"s3://[a-z-]+/[0-9a-f-]{36}/").all()
    assert paper24["group"].str.fullmatch("[0-9a-f]{16}").all()
    for row in paper24.to_dict("records"):
        places = [float(one) for one in row["fractions"].split(";")]
        assert len(places) == row["slices"] <= row["instances"]
        assert CENTRAL[0] <= min(places) <= max(places) <= CENTRAL[1]


def test_the_same_seed_gives_the_same_plan(paper24: pd.DataFrame) -> None:
    rectum = {"rectum": read_queries("paper24")["rectum"]}
    one, same, other = (plan_dataset(rectum, per_class=50, seed=seed) for seed in (1, 1, 2))
    pd.testing.assert_frame_equal(one, same)
    assert set(one["series"]) != set(other["series"])


def test_other_licences_are_asked_for() -> None:
    classes = {"breast": (SeriesQuery(("duke_breast_cancer_mri",), modalities=("MR",)),)}
    with pytest.raises(DatasetError, match=r"'breast'.*no series"):
        plan_dataset(classes, per_class=5, seed=0)
    plan = plan_dataset(classes, per_class=5, seed=0, non_commercial=True)
    assert set(plan["licence"]) == {"CC BY-NC 4.0"}
    with pytest.raises(DatasetError, match="no collection 'tcga_xyz'"):
        series_of_classes({"a": (SeriesQuery(("tcga_xyz",)),)})


def test_a_class_may_name_its_licences() -> None:
    for named in (("CC BY-NC 4.0",), ("CC BY-NC",)):
        classes = {"breast": (SeriesQuery(("duke_breast_cancer_mri",), modalities=("MR",), licences=named),)}
        assert set(plan_dataset(classes, per_class=5, seed=0)["licence"]) == {"CC BY-NC 4.0"}
    with pytest.raises(DatasetError, match="without its licences it would have some"):
        plan_dataset({"brain": (SeriesQuery(("upenn_gbm",), licences=("CC BY-NC",)),)}, per_class=5, seed=0)


def test_why_a_class_has_no_series_is_said() -> None:
    query = SeriesQuery(("tcga_thca",))
    for classes, message in (
        ({"one": (query,), "two": (query,)}, "'two'.*an earlier class has taken them all"),
        ({"one": (SeriesQuery(("tcga_thca",), modalities=("CT",), body_parts=("TOE",)),)}, "without its body_parts"),
        ({"one": (SeriesQuery(("duke_breast_cancer_mri",), modalities=("MR",)),)}, "see --allow-nc"),
    ):
        with pytest.raises(DatasetError, match=message):
            plan_dataset(classes, per_class=5, seed=0)


def test_one_patient_of_two_collections_is_one_group() -> None:
    both = ("vestibular_schwannoma_seg", "vestibular_schwannoma_mc_rc")
    classes = {"ear": (SeriesQuery(both),)}
    plan = plan_dataset(classes, per_class=2000, seed=0)
    known = plan.merge(series_of_classes(classes)[["series", "patient"]], on="series", validate="1:1")
    assert known[["patient", "collection"]].drop_duplicates()["patient"].duplicated().any()
    groups = known[["patient", "group"]].drop_duplicates()
    assert groups["patient"].is_unique
    assert groups["group"].is_unique


def test_few_slices_do_not_make_few_patients() -> None:
    plan = plan_dataset({"brain": (SeriesQuery(("upenn_gbm",)),)}, per_class=3, seed=0)
    assert summarise(plan, 3)[0].remarks == ()


def test_an_edited_plan_that_cannot_be_is_refused(tmp_path: Path, paper24: pd.DataFrame) -> None:
    for name, plan, message in (
        ("none", paper24.iloc[:0], "has no line"),
        ("twice", pd.concat([paper24.iloc[:2], paper24.iloc[:1]]), "twice"),
    ):
        write_table(plan, tmp_path / name)
        with pytest.raises(DatasetError, match=message):
            read_plan(tmp_path / name)


@given(
    st.lists(st.lists(st.integers(1, 40), min_size=1, max_size=4), min_size=1, max_size=8),
    st.integers(1, 60),
    st.integers(0, 9),
)
def test_sampling_spreads_over_patients_then_series_then_slices(
    patients: list[list[int]], count: int, seed: int
) -> None:
    series = pd.DataFrame(
        [
            {
                **dict.fromkeys(planning.COLUMNS, ""),
                "collection": "c",
                "patient": f"p{patient}",
                "series": f"{patient}.{number}",
                "address": "s3://b/x/*",
                "instances": instances,
                "megabytes": 1.0,
            }
            for patient, lengths in enumerate(patients)
            for number, instances in enumerate(lengths)
        ]
    )
    plan = pd.DataFrame(planning._sample(series, count, np.random.default_rng(seed)))
    capacities = [[max(1, int(n * (CENTRAL[1] - CENTRAL[0]))) for n in lengths] for lengths in patients]
    assert plan["slices"].sum() == min(count, sum(map(sum, capacities)))
    taken = dict(zip(plan["series"], plan["slices"], strict=True))
    of_patients = [[taken.get(f"{p}.{n}", 0) for n in range(len(lengths))] for p, lengths in enumerate(patients)]
    totals = [sum(one) for one in of_patients]
    for patient, capacity in enumerate(capacities):
        # Whoever gave fewer than another by two had no more to give; likewise among a patient's series.
        if totals[patient] < max(totals) - 1:
            assert totals[patient] == sum(capacity)
        for number, most in enumerate(capacity):
            if of_patients[patient][number] < max(of_patients[patient]) - 1:
                assert of_patients[patient][number] == most


def test_a_class_that_falls_short_says_so(tmp_path: Path) -> None:
    classes = {"thyroid": (SeriesQuery(("tcga_thca",), modalities=("PT",)),)}
    plan = plan_dataset(classes, per_class=100_000, seed=0)
    (summary,) = summarise(plan, 100_000)
    assert any("only" in remark and "100,000" in remark for remark in summary.remarks)
    write_table(plan, tmp_path / "plan.csv")
    pd.testing.assert_frame_equal(read_plan(tmp_path / "plan.csv"), plan, check_dtype=False)
    (tmp_path / "other.csv").write_text("a,b\n1,2\n")
    with pytest.raises(DatasetError, match="no column 'label'"):
        read_plan(tmp_path / "other.csv")
