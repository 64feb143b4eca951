"""Which DICOM objects are pictures of a patient, by their SOP class and transfer syntax (PS3.4 annex B, PS3.6)."""

from __future__ import annotations

from typing import Final

from pydicom.dataset import Dataset
from pydicom.uid import UID, MPEGTransferSyntaxes

from model.errors import ImageError, Reason
from model.images.elements import number
from model.images.pixel_data import PixelData

MAX_FRAME_PIXELS: Final = 2**27
"""Rows × columns above which a frame is left out: 11,585 × 11,585, far beyond any clinical detector."""

_DICOMDIR = "1.2.840.10008.1.3.10"

_NO_PICTURES: Final = {
    "1.2.840.10008.5.1.4.1.1.66.4": "segmentation",
    "1.2.840.10008.5.1.4.1.1.66.7": "label map segmentation",
    "1.2.840.10008.5.1.4.1.1.481.2": "radiotherapy dose",
    "1.2.840.10008.5.1.4.1.1.30": "parametric map",
}
"""Objects with pixel data that show no patient, or not as a picture."""

_WHOLE_SLIDE = "1.2.840.10008.5.1.4.1.1.77.1.6"

_VIDEO: Final = frozenset(MPEGTransferSyntaxes)


def check_object(address: str, ds: Dataset, pixels: PixelData | None, *, sop_class: str) -> tuple[PixelData, int]:
    """Return the pixel data of a picture, and its number of frames.

    Args:
        address: how to name the file.
        ds: its header.
        pixels: its pixel data, if it has any.
        sop_class: its SOP Class UID, or empty.

    Raises:
        ImageError: the object is no picture of a patient, is a video, or is absurdly large.
    """
    name = UID(sop_class).name if sop_class else f"modality {ds.get('Modality', 'unknown')}"
    if sop_class == _DICOMDIR:
        raise ImageError(address, Reason.NO_PIXEL_DATA, "DICOMDIR: its members are files of their own")
    if kind := _NO_PICTURES.get(sop_class):
        raise ImageError(address, Reason.NOT_A_PICTURE, f"{kind} object")
    if pixels is None:
        raise ImageError(address, Reason.NO_PIXEL_DATA, f"{name} object")
    syntax = ds.file_meta.TransferSyntaxUID
    if syntax in _VIDEO:
        raise ImageError(address, Reason.UNSUPPORTED, f"video: {UID(syntax).name}")
    rows, columns = (int(number(ds, keyword) or 0) for keyword in ("Rows", "Columns"))
    if not rows or not columns:
        raise ImageError(address, Reason.CORRUPT, "Rows or Columns are missing or zero")
    if rows * columns > MAX_FRAME_PIXELS:
        raise ImageError(address, Reason.TOO_LARGE, f"{rows} × {columns} pixels a frame, limit {MAX_FRAME_PIXELS:,}")
    frames = max(1, int(number(ds, "NumberOfFrames") or 1))
    if sop_class == _WHOLE_SLIDE:
        _check_whole_slide(address, ds, frames)
    return pixels, frames


def _check_whole_slide(address: str, ds: Dataset, frames: int) -> None:
    """Of a slide only a level in one piece shows the tissue as a whole (PS3.3 C.8.12.4); a label shows a name."""
    image_type = [str(value).upper() for value in ds.get("ImageType") or ()]
    if "LABEL" in image_type or ds.get("SpecimenLabelInImage") == "YES":
        raise ImageError(address, Reason.NOT_A_PICTURE, "label of a whole slide")
    if frames > 1:
        raise ImageError(address, Reason.NOT_A_PICTURE, f"level of a whole slide in {frames:,} tiles")
