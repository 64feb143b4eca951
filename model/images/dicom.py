"""DICOM objects (PS3.10 files, with or without preamble and meta header) into grey frames."""

from __future__ import annotations

import hashlib
import hmac
import logging
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from io import BytesIO

import numpy as np
from pydicom import dcmread
from pydicom.config import IGNORE, settings
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.filereader import _read_file_meta_info, read_preamble
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)

from model.errors import ImageError, Reason
from model.images.decoders import order_decoders
from model.images.display import show
from model.images.frames import BrokenFrame, Frame, GreyImage, Header, Shown
from model.images.geometry import Geometry, frame_geometry
from model.images.pixel_data import PixelData, pixels_behind, pixels_in_memory
from model.images.pixel_module import complete
from model.images.sop_classes import check_object
from model.images.sources import Source, describe_error
from model.images.stored_frames import StoredFrames

# What matters of its warnings becomes an error here, with the file's name; the rest would only clutter a terminal.
logging.getLogger("pydicom").setLevel(logging.CRITICAL)
settings.reading_validation_mode = IGNORE
order_decoders()

MAX_DATASET = 2**29
"""Bytes to which a deflated dataset may grow: it is inflated in memory."""

_DEFLATED = DeflatedExplicitVRLittleEndian.encode()


@dataclass(frozen=True, slots=True)
class DicomObject:
    """A file's data elements, made whole, and its pixel data.

    Attributes:
        ds: the data elements; a transfer syntax is always set.
        pixels: the pixel data, ``None`` if there are none.
        notes: what of the header was set, or taken for something else, and why.
    """

    ds: Dataset
    pixels: PixelData | None
    notes: tuple[str, ...]


def read_dicom(
    source: Source, only: int | None = None, patient_key: bytes | None = None, *, skip_burned_in: bool = False
) -> Iterator[Frame | BrokenFrame]:
    """Yield the frames of one DICOM file in order, at most one decoded frame in memory at a time.

    Args:
        source: the file.
        only: 1-based number of the one frame to decode and yield; nothing is yielded if the file has no such frame.
        patient_key: see :class:`model.images.reading.ReadOptions`.
        skip_burned_in: refuse a file whose header says that an annotation is burned into its pixels.

    Raises:
        ImageError: the file has no pixel data, is no picture of a patient, is too large, its header is damaged, or it
            cannot be read. What is wrong with a single frame is yielded.
    """
    address = source.address
    try:
        found = read_object(source)
        ds = found.ds
        header = read_header(ds, patient_key)
        sop_class = _text(ds, "SOPClassUID") or str(ds.file_meta.get("MediaStorageSOPClassUID", ""))
        if found.pixels is None and not _has_prefix(source) and not sop_class and not _is_described(ds):
            raise ImageError(address, Reason.NOT_AN_IMAGE, "it begins as DICOM may, and is none")
        pixels, count = check_object(address, ds, found.pixels, sop_class=sop_class)
        if skip_burned_in and _text(ds, "BurnedInAnnotation") == "YES":
            raise ImageError(address, Reason.BURNED_IN, "its header says so (0028,0301)")
        if only is not None and not 1 <= only <= count:
            return
        frames = StoredFrames(ds, pixels, count)
    except ImageError:
        raise
    except MemoryError as error:
        raise ImageError(address, Reason.UNREADABLE, "there is too little memory to decode it") from error
    except Exception as error:  # parsers of damaged headers raise whatever they like
        if not _has_prefix(source) and not isinstance(error, OSError):
            raise ImageError(address, Reason.NOT_AN_IMAGE, "it begins as DICOM may, and is none") from error
        raise ImageError(address, _reason(error), f"header: {describe_error(error, address)}") from error
    for number in range(1, count + 1) if only is None else (only,):
        shown = _show(address, ds, frames, number, count)
        if isinstance(shown, BrokenFrame):
            yield shown
        else:
            placed = with_geometry(header, frame_geometry(ds, number))
            yield Frame(shown.grey, number, count, _identity(header, number, shown.grey), placed, shown.colour)


def _show(address: str, ds: Dataset, frames: StoredFrames, number: int, count: int) -> Shown | BrokenFrame:
    """A frame as displayed, or why it cannot be.

    Raises:
        ImageError: the file cannot be read now; another time it perhaps can.
    """
    try:
        stored = frames.decode(number - 1)
        return show(stored.values, ds, number - 1, stored.tolerance)
    except MemoryError as error:
        raise ImageError(address, Reason.UNREADABLE, "there is too little memory to decode it") from error
    except Exception as error:  # every decoder plug-in raises whatever it likes
        reason = _reason(error)
        if reason is Reason.UNREADABLE:
            raise ImageError(address, reason, describe_error(error, address)) from error
        return BrokenFrame(number, count, reason, describe_error(error, address))


def read_object(source: Source) -> DicomObject:
    """Parse a file's header; its pixel data stay in the file if the source does not hold it in memory.

    Raises:
        ImageError: nothing can be parsed, or a deflated dataset is a bomb.
    """
    if (deflated := _deflated(source)) is not None:
        _refuse_bomb(source.address, deflated)
        ds = dcmread(BytesIO(deflated), force=True)
        pixels = pixels_in_memory(ds)
    else:
        with source.path.open("rb") if source.content is None else BytesIO(source.content) as file:
            # Only up to there: pydicom gives everything up if what follows was cut off, or is no data element.
            ds = dcmread(file, force=True, stop_before_pixels=True)
            pixels = pixels_behind(ds, file, source.content or source.path)
    if len(ds) == 0:
        if not _has_prefix(source):
            raise ImageError(source.address, Reason.NOT_AN_IMAGE, "it begins as DICOM may, and is none")
        raise ImageError(source.address, Reason.CORRUPT, "it starts like DICOM, but no data elements can be parsed")
    if not getattr(ds, "file_meta", None):
        ds.file_meta = FileMetaDataset()
    if "TransferSyntaxUID" not in ds.file_meta:
        ds.file_meta.TransferSyntaxUID = _assumed_syntax(ds)
    return DicomObject(ds, pixels, tuple(complete(ds, pixels)))


def _has_prefix(source: Source) -> bool:
    return source.start[128:132] == b"DICM"


def _is_described(ds: Dataset) -> bool:
    """Whether a dataset has any of the elements by which every DICOM object says what it is."""
    return any(keyword in ds for keyword in ("Modality", "StudyInstanceUID", "SOPInstanceUID", "Rows", "StudyDate"))


def read_header(ds: Dataset, patient_key: bytes | None = None) -> Header:
    """What the index keeps of a dataset's header."""
    return Header(
        modality=_text(ds, "Modality"),
        body_part_examined=_text(ds, "BodyPartExamined"),
        sop_instance_uid=_text(ds, "SOPInstanceUID"),
        series_instance_uid=_text(ds, "SeriesInstanceUID"),
        study_instance_uid=_text(ds, "StudyInstanceUID"),
        patient_group=_patient_group(ds, patient_key) if patient_key else None,
    )


def read_dicom_headers(source: Source, patient_key: bytes | None = None) -> Iterator[tuple[int, Header]]:
    """The number and the header of each frame of a DICOM file; no pixel is decoded.

    Raises:
        ImageError: as :func:`read_dicom`, but for what concerns the pixels alone.
    """
    try:
        found = read_object(source)
        header = read_header(found.ds, patient_key)
        _, count = check_object(source.address, found.ds, found.pixels, sop_class=_text(found.ds, "SOPClassUID") or "")
    except ImageError:
        raise
    except Exception as error:  # parsers of damaged headers raise whatever they like
        raise ImageError(source.address, _reason(error), f"header: {describe_error(error, source.address)}") from error
    for number in range(1, count + 1):
        yield number, with_geometry(header, frame_geometry(found.ds, number))


def with_geometry(header: Header, geometry: Geometry) -> Header:
    """The header of one frame."""
    localizer = "yes" if geometry.localizer else None
    return replace(header, view=geometry.view, localizer=localizer, stack=geometry.stack, slice_mm=geometry.slice_mm)


def _patient_group(ds: Dataset, key: bytes) -> str | None:
    patient = _text(ds, "PatientID")
    return hmac.new(key, patient.encode(), "sha256").hexdigest()[:32] if patient else None


def _deflated(source: Source) -> bytes | None:
    """The whole file if its dataset is deflated (PS3.5 annex A.5), which can only be inflated in memory."""
    content = source.content
    if content is None:
        with source.path.open("rb") as file:
            if _DEFLATED not in file.read(2**16):
                return None
        content = source.path.read_bytes()
    return content if _DEFLATED in content else None


def _refuse_bomb(address: str, content: bytes) -> None:
    file = BytesIO(content)
    read_preamble(file, force=True)
    meta = _read_file_meta_info(file)
    if meta.get("TransferSyntaxUID") != _DEFLATED.decode():
        return
    deflated, inflate, size = file.read(), zlib.decompressobj(-zlib.MAX_WBITS), 0
    while deflated and not inflate.eof:
        size += len(inflate.decompress(deflated, 2**22))
        deflated = inflate.unconsumed_tail
        if size > MAX_DATASET:
            raise ImageError(address, Reason.TOO_LARGE, f"its deflated dataset is larger than {MAX_DATASET:,} bytes")


def _assumed_syntax(ds: Dataset) -> UID:
    """The transfer syntax by the encoding that parsed, for files without a meta header."""
    implicit, little = ds.original_encoding
    if implicit:
        return ImplicitVRLittleEndian
    return ExplicitVRLittleEndian if little else ExplicitVRBigEndian


def _reason(error: Exception) -> Reason:
    if isinstance(error, NotImplementedError):
        return Reason.UNSUPPORTED
    if isinstance(error, OSError) and error.errno is not None:  # the file system's own, not a decoder's
        return Reason.UNREADABLE
    missing = isinstance(error, RuntimeError) and "missing dependencies" in str(error)
    return Reason.UNSUPPORTED if missing else Reason.CORRUPT


def _identity(header: Header, frame: int, pixels: GreyImage) -> str:
    digest = hashlib.sha256(np.ascontiguousarray(pixels).data)  # in hardware on most processors
    digest.update(repr(pixels.shape).encode())
    return f"dicom/{header.sop_instance_uid or ''}/{frame}/{digest.hexdigest()}"


def _text(ds: Dataset, keyword: str) -> str | None:
    """The value of an element of CS, UI or LO, without the cost of a data element; of text only ASCII stays legible."""
    element = ds.get_item(keyword)
    value = element.value if element is not None else None
    if isinstance(value, bytes):
        value = value.decode("ascii", "backslashreplace").rstrip("\0 ")
    return str(value).strip() or None if value is not None else None
