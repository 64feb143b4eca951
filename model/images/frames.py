"""What reading a file gives: grey frames with the header fields that the index keeps."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from model.errors import Reason

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

GreyImage: TypeAlias = "NDArray[np.uint8]"
"""Grey image as displayed, ``(height, width)`` uint8, 0 black to 255 white."""


ColourImage: TypeAlias = "NDArray[np.uint8]"
"""Colour image as displayed, ``(height, width, 3)`` uint8, RGB."""


@dataclass(frozen=True, slots=True)
class Shown:
    """A frame as displayed: in grey, and in colour where it has colours."""

    grey: GreyImage
    colour: ColourImage | None = None


@dataclass(frozen=True, slots=True)
class Header:
    """The fields of an image's header that reach the index; patient identity is not among them.

    The first attributes are the values of DICOM PS3.6 of the same name, ``None`` where absent or not DICOM.
    ``patient_group`` is a keyed hash of the Patient ID, there only if it was asked for. The last four say where the
    picture lies in the body: see :class:`model.images.geometry.Geometry`; ``localizer`` is ``yes`` or absent.
    """

    modality: str | None = None
    body_part_examined: str | None = None
    sop_instance_uid: str | None = None
    series_instance_uid: str | None = None
    study_instance_uid: str | None = None
    patient_group: str | None = None
    view: str | None = None
    localizer: str | None = None
    stack: str | None = None
    slice_mm: float | None = None


@dataclass(frozen=True, slots=True)
class Frame:
    """One picture of a file: a frame of a DICOM object, a page of a TIFF, or the whole of another file.

    Attributes:
        pixels: the frame as displayed, ``(height, width)`` uint8.
        number: 1-based frame or page number within the file.
        of: how many frames the file has.
        identity: what makes this picture itself, equal for every copy of it: for DICOM the SOP Instance UID, the frame
            number and a hash of the displayed pixels; for other files a hash of the file's bytes and the page. The
            hash is always part of it because real archives repeat a UID with other pixels: so two different pictures
            are never taken for one, whichever arrives first.
        header: what the index keeps of the file's header.
        colour: the same as displayed in colour, ``(height, width, 3)`` uint8, where it has colours.
    """

    pixels: GreyImage
    number: int
    of: int
    identity: str
    header: Header
    colour: ColourImage | None = None


@dataclass(frozen=True, slots=True)
class BrokenFrame:
    """A frame that cannot be shown, of a file whose other frames perhaps can.

    Attributes:
        number, of: see :class:`Frame`.
        reason, detail: see :class:`model.errors.ImageError`.
    """

    number: int
    of: int
    reason: Reason
    detail: str
