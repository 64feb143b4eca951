"""The plan of a dataset: which series, and how many slices of each, spread over patients first."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from itertools import islice, zip_longest
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd

from model.dataset.catalogue import series_of_classes
from model.dataset.series_queries import Classes, SeriesQuery
from model.dataset.tables import read_table
from model.errors import DatasetError

CENTRAL: Final = (0.2, 0.8)
"""Part of a series from which slices are taken, as shares of its length."""

FEW_PATIENTS: Final = 10
"""A class of fewer is flagged: its test part would tell little."""

COLUMNS: Final = (
    "label",
    "group",
    "collection",
    "modality",
    "body_part",
    "description",
    "licence",
    "doi",
    "series",
    "address",
    "instances",
    "slices",
    "fractions",
    "megabytes",
)
"""Columns of a plan; ``group`` is a hash of the patient, ``fractions`` say where in the series the slices lie."""


@dataclass(frozen=True, slots=True)
class ClassSummary:
    """What a plan has of one class."""

    label: str
    wanted: int
    slices: int
    patients: int
    series: int
    modalities: tuple[str, ...]
    licences: tuple[str, ...]
    megabytes: float

    @property
    def remarks(self) -> tuple[str, ...]:
        """What a user should know of it."""
        short = (f"has only {self.slices:,} of {self.wanted:,}",) if self.slices < self.wanted else ()
        return short + ((f"only {self.patients} patients",) if self.patients < min(FEW_PATIENTS, self.slices) else ())


def plan_dataset(classes: Classes, *, per_class: int, seed: int, non_commercial: bool = False) -> pd.DataFrame:
    """Choose series and slices of every class; equal arguments give equal plans.

    Each patient gives one slice before any gives two, likewise each series of a patient; the slices of a series are
    evenly spaced through its central part.

    Args:
        classes: see :mod:`model.dataset.series_queries`.
        per_class: slices wanted of each.
        seed: of the choice.
        non_commercial: see :func:`model.dataset.catalogue.series_of_classes`.

    Returns:
        A row a series, with :data:`COLUMNS`.

    Raises:
        DatasetError: a collection does not exist, or a class has no series at all.
    """
    series = series_of_classes(classes, non_commercial=non_commercial)
    rows: list[dict[str, Any]] = []
    for number, label in enumerate(classes):
        of_class = series[series["label"] == label]
        if of_class.empty:
            why = _why_none(classes[label], non_commercial=non_commercial)
            raise DatasetError(f"class {label!r}: the archive has no series that it asks for{why}")
        rows += _sample(of_class, per_class, np.random.default_rng([seed, number]))
    return pd.DataFrame(rows, columns=list(COLUMNS))


def _why_none(queries: tuple[SeriesQuery, ...], *, non_commercial: bool) -> str:
    """What may keep all series from a class: an earlier class, their licences, or one line of its queries."""
    if not series_of_classes({"": queries}, non_commercial=non_commercial).empty:
        return ", as an earlier class has taken them all"
    if not series_of_classes({"": queries}, non_commercial=True).empty:
        return " under a permissive licence: see --allow-nc"
    for query in queries:
        for one in fields(query):
            if one.name != "collections" and getattr(query, one.name) != one.default:
                default: dict[str, Any] = {one.name: one.default}
                if not series_of_classes({"": (replace(query, **default),)}, non_commercial=True).empty:
                    return f"; without its {one.name} it would have some"
    return ""


def summarise(plan: pd.DataFrame, per_class: int) -> list[ClassSummary]:
    """Each class of a plan."""
    return [
        ClassSummary(
            str(label),
            per_class,
            int(of_class["slices"].sum()),
            of_class["group"].nunique(),
            len(of_class),
            tuple(sorted(of_class["modality"].unique())),
            tuple(sorted(of_class["licence"].unique())),
            float(of_class["megabytes"].sum()),
        )
        for label, of_class in plan.groupby("label", sort=False)
    ]


def read_plan(path: Path) -> pd.DataFrame:
    """Read a plan, perhaps edited.

    Raises:
        DatasetError: it cannot be read, lacks a column, or has no number where one must be.
    """
    absent = f"{path} does not exist: make it with 'cbmir dataset plan'"
    plan = read_table(path, COLUMNS, absent=absent, origin="cbmir dataset plan")
    if plan.empty:
        raise DatasetError(f"{path} has no line: make it with 'cbmir dataset plan'")
    if (twice := plan["series"].duplicated()).any():
        raise DatasetError(f"{path} has series {plan['series'][twice].iloc[0]} twice: take one of the lines out")
    try:
        return plan.astype({"instances": int, "slices": int, "megabytes": float})
    except ValueError as error:
        raise DatasetError(f"{path}: {error}") from error


def patient_group(patient: str) -> str:
    """16 hexadecimal digits that are the same for all of a patient's series.

    In whatever collection: some share patients. Two people who have one ID in two collections become one group, which
    does no harm. The archive's Patient IDs are public pseudonyms, and can be found again from this by whoever hashes
    them all.
    """
    return hashlib.sha256(patient.encode()).hexdigest()[:16]


def _sample(series: pd.DataFrame, count: int, rng: np.random.Generator) -> list[dict[str, Any]]:
    records = [{str(name): value for name, value in row.items()} for row in series.to_dict("records")]
    by_patient: dict[str, list[int]] = {}
    for number in rng.permutation(len(records)).tolist():
        by_patient.setdefault(records[number]["patient"], []).append(number)
    order = sorted(by_patient, key=lambda patient: (records[min(by_patient[patient])]["collection"], patient))
    queues = [_slices_in_turn([(n, _capacity(records[n]["instances"])) for n in by_patient[p]]) for p in order]
    turns = rng.permutation(len(queues)).tolist()
    taken: dict[int, int] = {}
    for number in islice(_in_turn([queues[turn] for turn in turns]), count):
        taken[number] = taken.get(number, 0) + 1
    return [_row(records[number], slices, rng.random()) for number, slices in sorted(taken.items())]


def _capacity(instances: int) -> int:
    low, high = CENTRAL
    return max(1, int(instances * (high - low)))


def _slices_in_turn(capacities: list[tuple[int, int]]) -> list[int]:
    """Series numbers in the order in which a patient gives slices: one of each series, then another of each."""
    return list(_in_turn([[number] * capacity for number, capacity in capacities]))


def _in_turn(queues: list[list[int]]) -> Iterator[int]:
    for turn in zip_longest(*queues):
        yield from (number for number in turn if number is not None)


def _row(one: dict[str, Any], slices: int, phase: float) -> dict[str, Any]:
    """Slices evenly spaced, beginning anywhere in the first of the spaces."""
    low, high = CENTRAL
    places = (low + (high - low) * (np.arange(slices) + phase) / slices).tolist()
    return {
        **{name: one[name] for name in COLUMNS if name in one},
        "group": patient_group(one["patient"]),
        "address": one["address"].removesuffix("*"),
        "slices": slices,
        "fractions": ";".join(f"{place:.4f}" for place in places),
        "megabytes": round(one["megabytes"] / one["instances"] * slices, 3),
    }
