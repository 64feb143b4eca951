from __future__ import annotations

import csv
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from pydicom import dcmread
from pydicom.dataset import Dataset

from index.series_query import Slice, longest_stack
from model.images.geometry import STRAIGHT, Geometry, frame_geometry
from model.images.reading import read_frames, read_headers
from tests.support.shared import SHARED
from tests.support.volumes import PLANES, make_body, write_series

ANGLES = st.floats(-math.pi, math.pi)

Vector = Sequence[float] | NDArray[Any]


def plane(row: Vector, column: Vector, position: Vector = (0, 0, 0), **more: object) -> Dataset:
    ds = Dataset()
    ds.ImageOrientationPatient = [*map(float, row), *map(float, column)]
    ds.ImagePositionPatient = list(map(float, position))
    for keyword, value in more.items():
        setattr(ds, keyword, value)
    return ds


@pytest.mark.parametrize("name", PLANES)
def test_planes_of_the_body_are_told_whichever_way_they_are_drawn(name: str) -> None:
    row, column = (np.array(direction) for direction in PLANES[name])
    for r, c in ((row, column), (-row, column), (column, row), (-column, -row)):
        assert frame_geometry(plane(r, c), 1).view == name


@given(a=ANGLES, b=ANGLES, c=ANGLES, distance=st.floats(-500, 500))
def test_every_plane_has_a_view_by_its_normal_and_a_place_along_it(
    a: float, b: float, c: float, distance: float
) -> None:
    def turn(axis: int, angle: float) -> np.ndarray:
        i, j = [n for n in range(3) if n != axis]
        matrix = np.eye(3)
        matrix[[i, i, j, j], [i, j, i, j]] = math.cos(angle), -math.sin(angle), math.sin(angle), math.cos(angle)
        return matrix

    row, column, normal = (turn(0, a) @ turn(1, b) @ turn(2, c)).T
    largest = np.abs(normal).max()
    at_rest, moved = (
        frame_geometry(plane(row, column, 3 * row - 7 * column + step * normal), 1) for step in (0.0, distance)
    )
    assert at_rest.view is not None
    assert at_rest.slice_mm is not None
    assert moved.slice_mm is not None
    assert at_rest.stack == moved.stack
    if abs(largest - STRAIGHT) > 1e-6:
        assert (at_rest.view == "oblique") == (largest < STRAIGHT)
    towards = math.copysign(1, normal[np.abs(normal).argmax()])
    assert moved.slice_mm - at_rest.slice_mm == pytest.approx(towards * distance, abs=0.01)


def test_projections_mosaics_and_scouts() -> None:
    def made(**values: object) -> Geometry:
        ds = Dataset()
        for keyword, value in values.items():
            setattr(ds, keyword, value)
        return frame_geometry(ds, 1)

    assert made(Modality="DX", ViewPosition="PA").view == "frontal"
    assert made(Modality="CR", ViewPosition="LL").view == "lateral"
    assert made(Modality="MG", ViewPosition="MLO").view == "mlo"
    assert made(Modality="CR", PatientOrientation=["L", "F"]).view == "frontal"
    assert made(Modality="CR", PatientOrientation=["A", "F"]).view == "lateral"
    assert made(Modality="XA").view == "projection"
    assert made(Modality="US").view is None
    assert made(Modality="MR", ImageType=["ORIGINAL", "PRIMARY", "M", "ND", "MOSAIC"]).view == "mosaic"
    scout = frame_geometry(
        plane((1, 0, 0), (0, 0, -1), Modality="CT", ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"]), 1
    )
    assert (scout.view, scout.localizer, scout.slice_mm) == ("frontal", True, None)


def test_what_is_damaged_says_nothing() -> None:
    for ds in (
        plane((1, 0, 0), (1, 0, 0)),
        plane((0, 0, 0), (0, 0, 0)),
        plane((1, 0, 0), (0, 1, 0), PerFrameFunctionalGroupsSequence=[]),
    ):
        frame_geometry(ds, 1)
    assert frame_geometry(plane((1, 0, 0), (1, 0, 0)), 1) == Geometry()
    assert frame_geometry(plane((1e9, 0, 0), (0, 1e9, 0)), 1) == Geometry()
    far = frame_geometry(plane((1, 0, 0), (0, 1, 0), (0, 0, 1e9)), 1)
    assert (far.view, far.slice_mm) == ("axial", None)
    short = plane((1, 0, 0), (0, 1, 0))
    del short.ImagePositionPatient
    assert (frame_geometry(short, 1).view, frame_geometry(short, 1).slice_mm) == ("axial", None)


def test_stacks_of_a_series_are_told_apart() -> None:
    slices = [
        frame_geometry(plane((1, 0, 0), (0, 1, 0), EchoTime=echo, TemporalPositionIdentifier=time), 1).stack
        for echo in (10, 80)
        for time in (1, 2)
    ]
    assert len(set(slices)) == 4
    nearly = frame_geometry(plane((1, 1e-5, 0), (0, 1, 0), EchoTime=10, TemporalPositionIdentifier=1), 1)
    assert nearly.stack == slices[0]


@pytest.mark.parametrize("tilt", [0.0, 17.0, 30.0])
@pytest.mark.parametrize("name", PLANES)
def test_the_order_is_that_of_simpleitk(name: str, tilt: float, tmp_path: Path) -> None:
    uid = write_series(tmp_path, make_body(0, 0), "one", plane=name, tilt=tilt, slices=9, side=16, backwards=tilt > 0)
    reader: Any = SimpleITK
    theirs = [Path(path) for path in reader.ImageSeriesReader.GetGDCMSeriesFileNames(str(tmp_path), uid)]
    every = [Slice(str(path), *next(read_headers(path))) for path in tmp_path.iterdir()]
    stack = longest_stack(every)
    ours = [Path(one.address) for one in stack]
    assert ours in (theirs, theirs[::-1])
    assert every[0].header.view == (name if math.cos(math.radians(tilt)) >= STRAIGHT else "oblique")
    first, last = (reader.ReadImage(str(path)) for path in (ours[0], ours[-1]))
    normal = np.array(first.GetDirection()).reshape(3, 3)[:, 2]
    length = abs(np.dot(np.subtract(last.GetOrigin(), first.GetOrigin()), normal))
    assert np.diff([one.header.slice_mm for one in (stack[0], stack[-1])]) == pytest.approx(length, abs=0.01)


def test_frames_of_an_enhanced_object_have_places_of_their_own_and_headers_need_no_pixels(tmp_path: Path) -> None:
    write_series(tmp_path, make_body(0, 0), "many", slices=7, side=16, enhanced=True)
    (file,) = tmp_path.iterdir()
    headers = dict(read_headers(file))
    assert {frame.number: frame.header for frame in read_frames(file)} == headers
    places = [header.slice_mm for header in headers.values()]
    assert places == pytest.approx([-150, -100, -50, 0, 50, 100, 150])
    assert {header.view for header in headers.values()} == {"axial"}
    assert len({header.stack for header in headers.values()}) == 1


@pytest.mark.skipif(not (SHARED / "scanners").is_dir(), reason="needs the folder of shared data")
def test_views_are_those_that_a_person_sees() -> None:
    folder = SHARED / "scanners"
    with (folder / "dicom.csv").open() as table:
        rows = list(csv.DictReader(table))
    seen = [row for row in rows if row["view"] in {"axial", "coronal", "sagittal", "mosaic"}]
    assert len(seen) > 140
    wrong = []
    for row in seen:
        told = frame_geometry(dcmread(folder / row["path"], force=True, stop_before_pixels=True), 1).view
        if told not in {row["view"], "oblique", None}:
            wrong.append((row["path"], row["view"], told))
    assert not wrong
