"""DICOM objects (PS3.10 files, with or without preamble and meta header) into grey frames."""

from __future__ import annotations

import hashlib
import hmac
import logging
import zlib
from collections.abc import Iterator
from copy import copy
from io import BytesIO
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom import dcmread
from pydicom.config import IGNORE, settings
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.filereader import _read_file_meta_info, read_partial, read_preamble
from pydicom.pixels.decoders.base import get_decoder
from pydicom.pixels.utils import iter_pixels
from pydicom.tag import BaseTag
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)

from model.decoders import order_decoders
from model.display import to_grey
from model.elements import number
from model.errors import ImageError, Reason
from model.fragments import frames_of
from model.frames import Frame, GreyImage, Header
from model.objects import check_object, has_pixels
from model.pixel_module import bits_above, complete
from model.sources import Source, say

# What matters of its warnings becomes an error here, with the file's name; the rest would only clutter a terminal.
logging.getLogger("pydicom").setLevel(logging.CRITICAL)
settings.reading_validation_mode = IGNORE
order_decoders()

_PIXEL_MODULE = (
    "Rows",
    "Columns",
    "SamplesPerPixel",
    "PhotometricInterpretation",
    "PlanarConfiguration",
    "BitsAllocated",
    "BitsStored",
    "HighBit",
    "PixelRepresentation",
)

MAX_DATASET = 2**29
"""Bytes to which a deflated dataset may grow: it is inflated in memory."""

_DEFLATED = DeflatedExplicitVRLittleEndian.encode()


def read_dicom(
    source: Source, only: int | None = None, patient_key: bytes | None = None, *, skip_burned_in: bool = False
) -> Iterator[Frame]:
    """Yield the frames of one DICOM file in order, at most one decoded frame in memory at a time.

    Args:
        source: the file.
        only: 1-based number of the one frame to decode and yield; nothing is yielded if the file has no such frame.
        patient_key: see :class:`model.reading.ReadOptions`.
        skip_burned_in: as well.

    Raises:
        ImageError: the file has no pixel data, is no picture of a patient, is too large, is damaged, or is
            compressed with a transfer syntax that no installed decoder reads.
    """
    address, place, frames = source.address, only or 1, 0
    try:
        ds = read_dataset(source)
        header = read_header(ds, patient_key)
        sop_class = _text(ds, "SOPClassUID") or str(ds.file_meta.get("MediaStorageSOPClassUID", ""))
        frames = check_object(address, ds, sop_class=sop_class, pixels_unread=source.content is None)
        if skip_burned_in and _text(ds, "BurnedInAnnotation") == "YES":
            raise ImageError(address, Reason.BURNED_IN, "its header says so (0028,0301)")
        if only is not None and not 1 <= only <= frames:
            return
        for values in stored_values(source, ds, only):
            pixels = to_grey(values, ds, place - 1)
            yield Frame(pixels, place, frames, _identity(header, place, pixels), header)
            place += 1
    except ImageError:
        raise
    except MemoryError as error:
        raise ImageError(address, Reason.UNREADABLE, "there is too little memory to decode it") from error
    except NotImplementedError as error:
        raise ImageError(address, Reason.UNSUPPORTED, say(error, address)) from error
    except Exception as error:  # parsers of damaged headers, and every decoder plug-in, raise whatever they like
        where = f"frame {place} of {frames}" if frames else "header"
        raise ImageError(address, _reason(error), f"{where}: {say(error, address)}") from error
    if only is None and place != frames + 1:
        raise ImageError(address, Reason.CORRUPT, f"{place - 1} of {frames} frames could be decoded")


def read_dataset(source: Source) -> Dataset:
    """Parse a file's header, and its pixel data if the source holds it in memory; a transfer syntax is always set.

    Raises:
        ImageError: nothing can be parsed, or a deflated dataset is a bomb.
    """
    content = source.content
    if (deflated := _deflated(source)) is not None:
        _refuse_bomb(source.address, deflated)
        content = deflated
    if content is not None:
        ds = dcmread(BytesIO(content), force=True)
        if len(ds) == 0:  # pydicom gives everything up for bytes after the last element that are none
            ds = read_partial(BytesIO(content), stop_when=_is_behind_pixels, force=True)
    else:
        ds = dcmread(source.path, force=True, stop_before_pixels=True)
    if len(ds) == 0:
        raise ImageError(source.address, Reason.CORRUPT, "it starts like DICOM, but no data elements can be parsed")
    if not getattr(ds, "file_meta", None):
        ds.file_meta = FileMetaDataset()
    if "TransferSyntaxUID" not in ds.file_meta:
        ds.file_meta.TransferSyntaxUID = _assumed_syntax(ds)
    complete(ds)
    return ds


def _is_behind_pixels(tag: BaseTag, _vr: str | None, _length: int) -> bool:
    return tag.group == 0 or tag > 0x7FE0_0010


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


def stored_values(source: Source, ds: Dataset, only: int | None = None) -> Iterator[NDArray[Any]]:
    """The decoded frames in order, or ``only`` one by its 1-based number; from the file if ``ds`` holds no pixels.

    Every way to a frame is this one: what an index holds is what an inspection shows.
    """
    count = max(1, int(number(ds, "NumberOfFrames") or 1))
    indices = range(count) if only is None else range(only - 1, only)
    shift = bits_above(ds)
    for values in _decoded(source, ds, count, indices):
        yield values >> shift if shift and values.ndim == 2 else values


def _decoded(source: Source, ds: Dataset, count: int, indices: range) -> Iterator[NDArray[Any]]:
    syntax = UID(ds.file_meta.TransferSyntaxUID)
    if not has_pixels(ds):
        yield from iter_pixels(
            source.path, transfer_syntax_uid=syntax, indices=list(indices), allow_excess_frames=False
        )
        return
    decoder = get_decoder(syntax)
    if not syntax.is_encapsulated:
        if shift := bits_above(ds):  # else the highest bits would be cleared
            ds = copy(ds)
            ds.BitsStored = int(ds.BitsStored) + shift
        # What iter_pixels does for a dataset, which collects the pixel module twice.
        found = decoder.iter_array(ds, indices=list(indices), allow_excess_frames=False)
        yield from (values for values, _ in found)
        return
    streams = frames_of(ds.PixelData, count)
    for index in indices:
        if index < len(streams):
            yield next(values for values, _ in decoder.iter_array(_of_one_frame(ds, streams[index]), indices=[0]))


def _of_one_frame(ds: Dataset, stream: bytes) -> Dataset:
    """The image pixel module of a dataset, with one frame's code stream."""
    one = Dataset()
    one.file_meta = ds.file_meta
    one.set_original_encoding(*ds.original_encoding)
    for keyword in _PIXEL_MODULE:
        if (element := ds.get_item(keyword)) is not None:
            one[element.tag] = element
    one.NumberOfFrames = 1
    one.PixelData = encapsulate([stream], has_bot=False)
    one["PixelData"].VR = "OB"
    return one


def _assumed_syntax(ds: Dataset) -> UID:
    """The transfer syntax by the encoding that parsed, for files without a meta header."""
    implicit, little = ds.original_encoding
    if implicit:
        return ImplicitVRLittleEndian
    return ExplicitVRLittleEndian if little else ExplicitVRBigEndian


def _reason(error: Exception) -> Reason:
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
