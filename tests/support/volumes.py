"""Bodies of ellipsoids, cut into slices in any plane and written as series of DICOM: what is in them is known."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.uid import CTImageStorage, EnhancedCTImageStorage

from tests.support import phantoms

Vector3 = tuple[float, float, float]

PLANES: dict[str, tuple[Vector3, Vector3]] = {
    "axial": ((1, 0, 0), (0, 1, 0)),
    "coronal": ((1, 0, 0), (0, 0, -1)),
    "sagittal": ((0, 1, 0), (0, 0, -1)),
}
"""Directions of rows and columns, in DICOM's coordinates: to the left, to the back, to the head."""

LENGTH = 300.0
"""Of a body, from foot to head, in millimetres; it is as wide and as deep as 200."""


@dataclass(frozen=True)
class Body:
    """Ellipsoids: ``(n, 3)`` centres and half axes in millimetres, ``(n,)`` values, 0…1; later ones lie in front."""

    centres: NDArray[np.float64]
    axes: NDArray[np.float64]
    values: NDArray[np.float64]

    def at(self, points: NDArray[np.float64]) -> NDArray[np.float64]:
        """The value at points ``(…, 3)``."""
        found = np.zeros(points.shape[:-1])
        for centre, axes, value in zip(self.centres, self.axes, self.values, strict=True):
            inside = (((points - centre) / axes) ** 2).sum(-1) <= 1
            found[inside] = value
        return found


def make_body(kind: int, person: int) -> Body:
    """A body of a kind, which settles its organs, and a person, in whom they lie and look a little different."""
    organs, varied = np.random.default_rng(kind), np.random.default_rng([kind, person])
    count = 12
    centres = np.column_stack(
        [organs.uniform(-60, 60, count), organs.uniform(-60, 60, count), organs.uniform(-0.45, 0.45, count) * LENGTH]
    )
    axes = organs.uniform(12, 45, (count, 3))
    values = organs.uniform(0.3, 1, count)
    centres += varied.normal(0, 3, centres.shape)
    axes *= varied.uniform(0.9, 1.1, axes.shape)
    trunk = np.array([[0.0, 0.0, 0.0]]), np.array([[95.0, 80.0, LENGTH * 0.6]]), np.array([0.15])
    return Body(
        np.concatenate([trunk[0], centres]), np.concatenate([trunk[1], axes]), np.concatenate([trunk[2], values])
    )


def write_series(
    folder: Path,
    body: Body,
    name: str,
    *,
    plane: str = "axial",
    tilt: float = 0.0,
    part: tuple[float, float] = (0.0, 1.0),
    slices: int = 24,
    side: int = 48,
    backwards: bool = False,
    enhanced: bool = False,
    kind: str = "CT",
    suffix: str = "",
    localizer: bool = False,
) -> str:
    """Write slices of a part of a body as files of one series, or as one enhanced object; return the series' UID.

    Args:
        folder: to write into, made if it does not exist.
        body: to cut.
        name: of the study, patient and series.
        plane: of the slices.
        tilt: of the plane about its rows, in degrees.
        part: of the length across the plane, 0…1.
        slices: how many.
        side: of a slice in pixels.
        backwards: with instance numbers against the normal.
        enhanced: whether to write one enhanced object.
        kind: Modality.
        suffix: of the files' names.
        localizer: whether the slices call themselves scouts.
    """
    folder.mkdir(parents=True, exist_ok=True)
    row, column = (np.array(direction, float) for direction in PLANES[plane])
    angle = np.deg2rad(tilt)
    normal = np.cross(row, column)
    column = np.cos(angle) * column + np.sin(angle) * normal
    normal = np.cross(row, column)
    spacing, extent = 220 / side, LENGTH if plane == "axial" else 180.0
    places = (np.linspace(*part, slices) - 0.5) * extent
    across = (np.arange(side) - (side - 1) / 2) * spacing
    pictures, positions = [], []
    for place in places:
        grid = across[None, :, None] * row + across[:, None, None] * column + place * normal
        pictures.append(body.at(grid))
        positions.append(grid[0, 0])
    order = list(range(slices))[:: -1 if backwards else 1]
    series = phantoms.uid("volume", name)
    if enhanced:
        ds = phantoms.dicom([pictures[n] for n in order], "abdomen", f"{name}")
        _identify(ds, name, series, kind)
        ds.SOPClassUID = ds.file_meta.MediaStorageSOPClassUID = EnhancedCTImageStorage
        shared = Dataset()
        shared.PlaneOrientationSequence = [Dataset()]
        shared.PlaneOrientationSequence[0].ImageOrientationPatient = [*row, *column]
        ds.SharedFunctionalGroupsSequence = [shared]
        ds.PerFrameFunctionalGroupsSequence = []
        for n in order:
            frame = Dataset()
            frame.PlanePositionSequence = [Dataset()]
            frame.PlanePositionSequence[0].ImagePositionPatient = list(positions[n])
            ds.PerFrameFunctionalGroupsSequence.append(frame)
        ds.save_as(folder / f"{name}{suffix}.dcm", enforce_file_format=True)
        return series
    for number, n in enumerate(order):
        ds = phantoms.dicom([pictures[n]], "abdomen", f"{name}/{n}")
        _identify(ds, name, series, kind)
        ds.SOPClassUID = ds.file_meta.MediaStorageSOPClassUID = CTImageStorage
        ds.ImageType = ["ORIGINAL", "PRIMARY", "LOCALIZER" if localizer else "AXIAL"]
        ds.ImageOrientationPatient = [*row, *column]
        ds.ImagePositionPatient = list(positions[n])
        ds.InstanceNumber = number + 1
        ds.save_as(folder / f"{name}-{number:03}{suffix}.dcm", enforce_file_format=True)
    return series


def _identify(ds: Dataset, name: str, series: str, kind: str) -> None:
    ds.SeriesInstanceUID, ds.StudyInstanceUID = series, phantoms.uid("study of volume", name)
    ds.PatientID, ds.Modality = name, kind


def write_volume(path: Path, body: Body, *, slices: int, side: int) -> None:
    """Write a body from foot to head as one file of axial slices, of the format that its name says."""
    across, along = np.linspace(-110, 110, side), np.linspace(-LENGTH / 2, LENGTH / 2, slices)
    grid = np.stack(np.meshgrid(along, across, across, indexing="ij"), axis=-1)[..., ::-1]
    itk: Any = SimpleITK
    image = itk.GetImageFromArray((body.at(grid) * 1000).astype(np.int16))
    image.SetSpacing((220 / (side - 1), 220 / (side - 1), LENGTH / (slices - 1)))
    image.SetOrigin((-110.0, -110.0, -LENGTH / 2))
    itk.WriteImage(image, str(path))
