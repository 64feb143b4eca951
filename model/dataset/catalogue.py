"""The index of the NCI Imaging Data Commons, as its package ships it: a row a DICOM series."""

from __future__ import annotations

import re
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Final

import pandas as pd
import pyarrow.parquet as pq

from model.dataset.series_queries import Classes, SeriesQuery
from model.errors import DatasetError

PACKAGE: Final = "idc-index-data"

COLUMNS: Final = {
    "collection_id": "collection",
    "PatientID": "patient",
    "SeriesInstanceUID": "series",
    "Modality": "modality",
    "BodyPartExamined": "body_part",
    "sop_class_name": "sop_class",
    "SeriesDescription": "description",
    "instanceCount": "instances",
    "series_size_MB": "megabytes",
    "license_short_name": "licence",
    "source_DOI": "doi",
    "series_aws_url": "address",
}
"""Columns of the index, and what they are called here."""


def catalogue_file(name: str) -> Path:
    """A file of the package.

    Raises:
        DatasetError: the package is not installed, or lacks the file.
    """
    try:
        files = distribution(PACKAGE).files or []
    except PackageNotFoundError as error:
        raise DatasetError("the archive's index is not installed: pip install 'cbmir[dataset]'") from error
    for file in files:
        if file.name == name:
            return Path(str(file.locate()))
    raise DatasetError(f"the package {PACKAGE} has no {name}: install the version of the constraints file")


def series_of_classes(classes: Classes, *, non_commercial: bool = False) -> pd.DataFrame:
    """The series that the classes ask for, with their class as ``label``, in a fixed order.

    Args:
        classes: a series belongs to the first that asks for it.
        non_commercial: also licences that forbid commercial use, or are no Creative Commons licences, where a query
            names none.

    Raises:
        DatasetError: a collection is not in the index.
    """
    asked = sorted({name for queries in classes.values() for query in queries for name in query.collections})
    parts, left = [], _collections(tuple(asked))
    for label, queries in classes.items():
        matching = pd.Series(data=False, index=left.index)
        for query in queries:
            matching |= _matches(left, query) & _allowed(left["licence"], query.licences, non_commercial)
        parts.append(left[matching].assign(label=label))
        left = left[~matching]
    return pd.concat(parts, ignore_index=True)


@lru_cache(maxsize=2)
def _collections(asked: tuple[str, ...]) -> pd.DataFrame:
    """All series of some collections, in order; nobody may change them, as the next call gets the same."""
    table = pq.read_table(
        catalogue_file("idc_index.parquet"), columns=list(COLUMNS), filters=[("collection_id", "in", list(asked))]
    )
    series: pd.DataFrame = table.to_pandas().rename(columns=COLUMNS)
    if missing := sorted(set(asked) - set(series["collection"])):
        raise DatasetError(f"the archive has no collection {missing[0]!r}")
    return series.fillna(dict.fromkeys(("description", "body_part", "licence", "doi"), "")).sort_values("series")


def is_permissive(licence: str) -> bool:
    """Whether a licence asks for attribution only."""
    return licence.startswith(("CC BY ", "CC0"))


def _allowed(licences: pd.Series, named: tuple[str, ...], non_commercial: bool) -> pd.Series:
    if named:
        return licences.isin(named) | licences.str.rsplit(" ", n=1).str[0].isin(named)
    permissive = [licence for licence in licences.unique() if is_permissive(licence)]
    return licences.isin(permissive) | non_commercial


def _matches(series: pd.DataFrame, query: SeriesQuery) -> pd.Series:
    matching = series["collection"].isin(query.collections)
    for column, names in (
        ("modality", query.modalities),
        ("body_part", query.body_parts),
        ("sop_class", query.sop_classes),
    ):
        if names:
            matching &= series[column].isin(names)
    matching &= series["instances"].between(query.least_instances, query.most_instances)
    # Of the million descriptions only those are searched that are left.
    described = series.loc[matching, "description"]
    if query.described:
        described = described[described.str.contains("|".join(map(re.escape, query.described)), case=False)]
    if query.leave_out:
        # As words: "loc" is a localizer, "block" is not. An underscore separates words here.
        words = "|".join(map(re.escape, query.leave_out))
        described = described[~described.str.contains(rf"(?<![A-Za-z])(?:{words})(?![A-Za-z])", case=False)]
    return matching & series.index.isin(described.index)
