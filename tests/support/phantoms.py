"""Phantoms: generated images of six organs, written as real DICOM in several transfer syntaxes.

They are drawn, not photographed: ellipses, noise and texture, different enough for a network to tell apart.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import NAMESPACE_OID, uuid5

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    MultiFrameGrayscaleWordSecondaryCaptureImageStorage,
    RLELossless,
    SecondaryCaptureImageStorage,
)

Picture = NDArray[np.float64]
"""``(side, side)``, 0 black to 1 white."""

SYNTAXES = (
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    RLELossless,
    JPEG2000Lossless,
    JPEGLSLossless,
    DeflatedExplicitVRLittleEndian,
)
FILES_A_SERIES = 5


class _Canvas:
    """Draws soft ellipses whose places and sizes vary a little with every phantom."""

    def __init__(self, side: int, rng: np.random.Generator) -> None:
        self.y, self.x = np.mgrid[-1 : 1 : side * 1j, -1 : 1 : side * 1j]
        self.rng, self.image = rng, np.zeros((side, side))

    def ellipse(self, x: float, y: float, width: float, height: float, value: float, tilt: float = 0.0) -> None:
        jitter = self.rng.normal(0, 0.03, 4)
        angle = np.deg2rad(tilt + self.rng.normal(0, 6))
        dx, dy = self.x - x - jitter[0], self.y - y - jitter[1]
        u = (dx * np.cos(angle) + dy * np.sin(angle)) / (width * (1 + jitter[2]))
        v = (dy * np.cos(angle) - dx * np.sin(angle)) / (height * (1 + jitter[3]))
        inside = np.clip((1 - np.hypot(u, v)) * 12, 0, 1)
        self.image = self.image * (1 - inside) + value * inside


def _brain(c: _Canvas) -> None:
    c.ellipse(0, 0, 0.72, 0.86, 0.9)
    c.ellipse(0, 0, 0.65, 0.79, 0.45)
    c.image += (c.image > 0.3) * 0.1 * np.sin(c.x * 34 + c.rng.uniform(0, 6)) * np.sin(c.y * 27)
    c.ellipse(-0.13, -0.05, 0.08, 0.28, 0.08, 12)
    c.ellipse(0.13, -0.05, 0.08, 0.28, 0.08, -12)


def _chest(c: _Canvas) -> None:
    c.image += 0.7
    c.ellipse(-0.42, 0, 0.32, 0.7, 0.15, 6)
    c.ellipse(0.42, 0, 0.32, 0.7, 0.15, -6)
    c.ellipse(0.1, 0.3, 0.3, 0.28, 0.8)
    c.image += 0.12 * (np.sin(c.y * 22 + 3 * c.x**2) > 0.6)


def _abdomen(c: _Canvas) -> None:
    c.ellipse(0, 0, 0.9, 0.66, 0.35)
    c.ellipse(-0.42, -0.05, 0.4, 0.38, 0.6, 10)
    c.ellipse(0.5, 0.1, 0.2, 0.26, 0.55)
    c.ellipse(0, 0.45, 0.13, 0.13, 1.0)
    c.ellipse(0.1, -0.3, 0.25, 0.12, 0.1)


def _knee(c: _Canvas) -> None:
    c.ellipse(0, 0, 0.5, 1.3, 0.25)
    c.ellipse(0, -0.75, 0.28, 0.68, 0.8)
    c.ellipse(0, 0.8, 0.3, 0.7, 0.75)
    c.ellipse(0.33, 0.85, 0.07, 0.6, 0.7)
    c.ellipse(-0.3, 0, 0.12, 0.2, 0.65)


def _eye(c: _Canvas) -> None:
    c.ellipse(0, 0, 0.88, 0.88, 0.45)
    disc = c.rng.choice([-0.45, 0.45])
    for turn in np.linspace(-1.2, 1.2, 5) + c.rng.normal(0, 0.1, 5):
        path = np.abs(c.y - turn * (c.x - disc) ** 2 * np.sign(turn) * 0.9 - turn * 0.08)
        c.image -= 0.25 * np.exp(-((path / 0.03) ** 2)) * (c.image > 0.3)
    c.ellipse(disc, 0, 0.15, 0.17, 0.95)
    c.ellipse(-disc * 0.4, 0.05, 0.14, 0.14, 0.3)


def _breast(c: _Canvas) -> None:
    side = c.rng.choice([-1.0, 1.0])
    c.ellipse(side, 0, 1.25, 0.85, 0.4)
    for _ in range(9):
        x, y = side * c.rng.uniform(0.1, 0.8), c.rng.uniform(-0.45, 0.45)
        c.ellipse(x, y, 0.16, 0.05, 0.75, c.rng.uniform(0, 180))


ORGANS: dict[str, tuple[str, Callable[[_Canvas], None]]] = {
    "abdomen": ("CT", _abdomen),
    "brain": ("MR", _brain),
    "breast": ("MG", _breast),
    "chest": ("CR", _chest),
    "eye": ("OP", _eye),
    "knee": ("DX", _knee),
}
"""Organ → modality and how to draw it."""


def draw(organ: str, seed: int, side: int = 256) -> Picture:
    """Draw one phantom; the same organ, seed and side give the same picture."""
    rng = np.random.default_rng([seed, *organ.encode()])
    canvas = _Canvas(side, rng)
    ORGANS[organ][1](canvas)
    noise = rng.normal(0, rng.uniform(0.02, 0.06), (side, side))
    return np.clip(canvas.image * rng.uniform(0.85, 1.1) + noise, 0, 1)


def uid(*parts: object) -> str:
    """A UID that depends on its parts alone (PS3.5 B.2)."""
    return f"2.25.{uuid5(NAMESPACE_OID, '/'.join(map(str, parts))).int}"


def dicom(pictures: list[Picture], organ: str, name: object, *, syntax: Any = ExplicitVRLittleEndian) -> FileDataset:
    """A secondary capture object of 12-bit values with rescale and window; several pictures are its frames.

    CR is MONOCHROME1. ``name`` makes its UIDs; objects named by a number share a series with their neighbours.
    """
    modality = ORGANS[organ][0]
    meta = FileMetaDataset()
    several = len(pictures) > 1
    sop_class = MultiFrameGrayscaleWordSecondaryCaptureImageStorage if several else SecondaryCaptureImageStorage
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = sop_class, UID(uid(organ, name))
    compressed = syntax.is_compressed and not syntax.is_deflated
    meta.TransferSyntaxUID = ExplicitVRLittleEndian if compressed else syntax
    ds = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    ds.SOPClassUID, ds.SOPInstanceUID = sop_class, meta.MediaStorageSOPInstanceUID
    series = name // FILES_A_SERIES if isinstance(name, int) else name
    ds.SeriesInstanceUID, ds.StudyInstanceUID = uid(organ, "series", series), uid(organ, "study", series)
    ds.PatientName, ds.PatientID, ds.PatientBirthDate = "PHANTOM^PLANTED", f"PLANTED-{organ}", "19010203"
    ds.Modality, ds.BodyPartExamined = modality, organ.upper()
    ds.Rows, ds.Columns = pictures[0].shape
    if several:
        ds.NumberOfFrames = len(pictures)
    ds.SamplesPerPixel, ds.PixelRepresentation = 1, 0
    ds.PhotometricInterpretation = "MONOCHROME1" if modality == "CR" else "MONOCHROME2"
    ds.BitsAllocated, ds.BitsStored, ds.HighBit = 16, 12, 11
    ds.RescaleIntercept, ds.RescaleSlope = "-1024", "1"
    ds.WindowCenter, ds.WindowWidth = "1024", "4096"
    values = np.stack(pictures)
    stored = np.rint((1 - values if modality == "CR" else values) * 4095).astype(np.uint16)
    ds.PixelData = stored.tobytes()
    ds["PixelData"].VR = "OW"
    if compressed:
        ds.compress(syntax, generate_instance_uid=False)
    return ds


def write_aborting(path: Path) -> None:
    """Write a file of which the decoder ends its process: GDCM aborts on this damage to a JPEG in colour."""
    import imagecodecs
    from pydicom.encaps import encapsulate

    colours = np.random.default_rng(0).integers(0, 256, (32, 32, 3)).astype(np.uint8)
    rgb: dict[str, Any] = {"colorspace": "RGB", "outcolorspace": "RGB"}
    code = bytearray(imagecodecs.jpeg8_encode(colours, lossless=True, predictor=1, **rgb))
    code[code.index(b"Adobe") + 11] = 0x88  # the marker's colour transform, of which there are three
    ds = dicom([draw("knee", 1, 32)], "knee", "aborting")
    ds.SamplesPerPixel, ds.PlanarConfiguration, ds.PhotometricInterpretation = 3, 0, "RGB"
    ds.BitsAllocated, ds.BitsStored, ds.HighBit = 8, 8, 7
    ds.file_meta.TransferSyntaxUID = JPEGLosslessSV1
    ds.PixelData = encapsulate([bytes(code)])
    ds.save_as(path, enforce_file_format=True)


def write_repository(folder: Path, *, images: int, seed: int = 0, side: int = 256) -> int:
    """Write a labelled repository, one folder a class, with one multi-frame and one broken file; return its files."""
    count = 0
    for organ in ORGANS:
        (folder / organ).mkdir(parents=True, exist_ok=True)
        for number in range(images):
            syntax = SYNTAXES[number % len(SYNTAXES)]
            ds = dicom([draw(organ, seed + number, side)], organ, number, syntax=syntax)
            ds.save_as(folder / organ / f"{organ}-{number:03}.dcm", enforce_file_format=True)
            count += 1
    cine = dicom([draw("brain", 9_000 + n, side) for n in range(4)], "brain", "cine", syntax=RLELossless)
    cine.save_as(folder / "brain" / "brain-cine.dcm", enforce_file_format=True)
    whole = (folder / "knee" / "knee-000.dcm").read_bytes()
    (folder / "knee" / "knee-broken.dcm").write_bytes(whole[: len(whole) // 2])
    return count + 2
