"""DICOM objects (PS3.10 files, with or without preamble and meta header) into grey frames."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom import dcmread
from pydicom.config import IGNORE, settings
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.pixels.decoders.base import get_decoder
from pydicom.pixels.utils import iter_pixels
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)

from model.display import to_grey
from model.errors import ImageError, Reason
from model.frames import Frame, GreyImage, Header

# What matters of its warnings becomes an error here, with the file's name; the rest would only clutter a terminal.
logging.getLogger("pydicom").setLevel(logging.CRITICAL)
settings.reading_validation_mode = IGNORE

MAX_FRAME_PIXELS = 2**28
"""Rows × columns above which a frame is left out: 16,384 × 16,384, far beyond any clinical detector."""

_PIXEL_KEYWORDS = ("PixelData", "FloatPixelData", "DoubleFloatPixelData")

_NO_PICTURES = {
    # PS3.4 B.5: objects with pixel data that show no patient, or not as a picture.
    "1.2.840.10008.5.1.4.1.1.66.4": "segmentation",
    "1.2.840.10008.5.1.4.1.1.66.7": "label map segmentation",
    "1.2.840.10008.5.1.4.1.1.481.2": "radiotherapy dose",
    "1.2.840.10008.5.1.4.1.1.30": "parametric map",
}


def read_dicom(path: Path, content: bytes | None) -> Iterator[Frame]:
    """Yield the frames of one DICOM file in order, at most one decoded frame in memory at a time.

    ``content`` is the whole file; without it the pixels are read from ``path`` frame by frame.

    Raises:
        ImageError: the file has no pixel data, is no picture of a patient, is too large, is damaged, or is
            compressed with a transfer syntax that no installed decoder reads.
    """
    count, frames = 0, 0
    try:
        ds = _read_dataset(path, content)
        frames, header = _check(path, ds, unread=content is None), _header(ds)
        for values in _stored_values(path, ds):
            pixels = to_grey(values, ds, count)
            count += 1
            yield Frame(pixels, count, frames, _identity(header, count, pixels), header)
    except ImageError:
        raise
    except MemoryError as error:
        raise ImageError(path, Reason.UNREADABLE, "there is too little memory to decode it") from error
    except NotImplementedError as error:
        raise ImageError(path, Reason.UNSUPPORTED, _one_line(error)) from error
    except Exception as error:  # parsers of damaged headers, and every decoder plug-in, raise whatever they like
        place = f"frame {count + 1} of {frames}" if frames else "header"
        raise ImageError(path, _reason(error), f"{place}: {_one_line(error)}") from error
    if count != frames:
        raise ImageError(path, Reason.CORRUPT, f"{count} of {frames} frames could be decoded")


def _read_dataset(path: Path, content: bytes | None) -> Dataset:
    ds = dcmread(BytesIO(content), force=True) if content else dcmread(path, force=True, stop_before_pixels=True)
    if not content and ds.file_meta.get("TransferSyntaxUID") == DeflatedExplicitVRLittleEndian:
        ds = dcmread(path, force=True)  # an inflated stream has no file offsets to read frames from
    if len(ds) == 0:
        raise ImageError(path, Reason.CORRUPT, "the file starts like DICOM but holds no data elements")
    if not getattr(ds, "file_meta", None):
        ds.file_meta = FileMetaDataset()
    if "TransferSyntaxUID" not in ds.file_meta:
        ds.file_meta.TransferSyntaxUID = _assumed_syntax(ds)
    return ds


def _stored_values(path: Path, ds: Dataset) -> Iterator[NDArray[Any]]:
    """The decoded frames in order, from the dataset or, where its pixels were not read, from the file."""
    syntax = ds.file_meta.TransferSyntaxUID
    if _has_pixels(ds):
        # What iter_pixels does for a dataset, which collects the pixel module twice.
        return (values for values, _ in get_decoder(syntax).iter_array(ds, view_only=True))
    return iter_pixels(path, transfer_syntax_uid=syntax)


def _assumed_syntax(ds: Dataset) -> UID:
    """The transfer syntax by the encoding that parsed, for files without a meta header."""
    implicit, little = ds.original_encoding
    if implicit:
        return ImplicitVRLittleEndian
    return ExplicitVRLittleEndian if little else ExplicitVRBigEndian


def _check(path: Path, ds: Dataset, *, unread: bool) -> int:
    """Return the number of frames, or raise for an object that is no picture or that is absurdly large."""
    sop_class = UID(_text(ds, "SOPClassUID") or "")
    if kind := _NO_PICTURES.get(sop_class):
        raise ImageError(path, Reason.NOT_A_PICTURE, f"{kind} object")
    rows, columns = ds.get("Rows"), ds.get("Columns")
    if not (unread and rows) and not _has_pixels(ds):  # unread pixels are still on disk, so no element tells of them
        kind = sop_class.name if sop_class else f"modality {ds.get('Modality', 'unknown')}"
        raise ImageError(path, Reason.NO_PIXEL_DATA, f"{kind} object")
    if not rows or not columns:
        raise ImageError(path, Reason.CORRUPT, "Rows or Columns are missing or zero")
    if int(rows) * int(columns) > MAX_FRAME_PIXELS:
        raise ImageError(path, Reason.TOO_LARGE, f"{rows} × {columns} pixels a frame, limit {MAX_FRAME_PIXELS:,}")
    return max(1, int(ds.get("NumberOfFrames") or 1))


def _has_pixels(ds: Dataset) -> bool:
    return any(keyword in ds for keyword in _PIXEL_KEYWORDS)


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def _reason(error: Exception) -> Reason:
    if isinstance(error, OSError) and error.errno is not None:  # the file system's own, not a decoder's
        return Reason.UNREADABLE
    return Reason.UNSUPPORTED if isinstance(error, RuntimeError) and "plugins" in str(error) else Reason.CORRUPT


def _identity(header: Header, frame: int, pixels: GreyImage) -> str:
    digest = hashlib.sha256(np.ascontiguousarray(pixels).data)  # in hardware on most processors
    digest.update(repr(pixels.shape).encode())
    return f"dicom/{header.sop_instance_uid or ''}/{frame}/{digest.hexdigest()}"


def _header(ds: Dataset) -> Header:
    return Header(
        modality=_text(ds, "Modality"),
        body_part_examined=_text(ds, "BodyPartExamined"),
        sop_instance_uid=_text(ds, "SOPInstanceUID"),
        series_instance_uid=_text(ds, "SeriesInstanceUID"),
        study_instance_uid=_text(ds, "StudyInstanceUID"),
    )


def _text(ds: Dataset, keyword: str) -> str | None:
    """The value of a CS or UI element, which are ASCII (PS3.5 section 6.2), without the cost of a data element."""
    element = ds.get_item(keyword)
    value = element.value if element is not None else None
    if isinstance(value, bytes):
        value = value.decode("ascii", "replace").rstrip("\0 ")
    return str(value).strip() or None if value is not None else None
