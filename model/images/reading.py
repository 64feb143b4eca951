"""Any image file into grey frames, the format told by the file's content and never by its name."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from model.errors import ImageError, Reason
from model.images.code_streams import JPEG_XL
from model.images.frames import BrokenFrame, Frame, Header
from model.images.heif import is_avif, is_heif
from model.images.signatures import volume_reader, what_it_is
from model.images.sources import open_source

_PICTURE_SIGNATURES = (
    b"\xff\xd8\xff",  # JPEG
    b"\x89PNG\r\n\x1a\n",
    b"II*\x00",  # TIFF, little-endian; then big-endian, then BigTIFF of both kinds
    b"MM\x00*",
    b"II+\x00",
    b"MM\x00+",
    b"BM",
    b"GIF8",
    *(kind + blank for kind in (b"P5", b"P6") for blank in (b"\n", b" ", b"\r", b"\t")),  # PGM, PPM
    *JPEG_XL,
    b"\xff\x4f\xff\x51",  # JPEG 2000, a code stream; then a file
    b"\x00\x00\x00\x0cjP  \x0d\x0a\x87\x0a",
)


@dataclass(frozen=True, slots=True)
class ReadOptions:
    """What reading a file may use of its header.

    Attributes:
        patient_key: key of the hash of the Patient ID that stands in :class:`model.images.frames.Header`; without it
            there is none.
        skip_burned_in: leave files out that say of themselves that an annotation is burned into their pixels.
    """

    patient_key: bytes | None = None
    skip_burned_in: bool = False


READ_ALL: Final = ReadOptions()


def read_frames(address: str | Path, only: int | None = None, options: ReadOptions = READ_ALL) -> Iterator[Frame]:
    """Yield the frames of an image file, in order, as :func:`read_each_frame` does.

    Raises:
        ImageError: as there, or one of the frames cannot be decoded.
    """
    for frame in read_each_frame(address, only, options):
        if isinstance(frame, BrokenFrame):
            raise broken_file(address, frame)
        yield frame


def broken_file(address: str | Path, frame: BrokenFrame) -> ImageError:
    """The error of a file that is given up for one of its frames."""
    return ImageError(address, frame.reason, f"frame {frame.number} of {frame.of}: {frame.detail}")


def read_each_frame(
    address: str | Path, only: int | None = None, options: ReadOptions = READ_ALL
) -> Iterator[Frame | BrokenFrame]:
    """Yield each frame of an image file, in order, or why it is broken.

    DICOM is recognised by its prefix (PS3.10 section 7.1) or, without one, by a first data element of the groups with
    which a dataset starts. Warnings of the decoders are silenced: what matters of them becomes an error.

    Args:
        address: a local path, or what :mod:`model.images.sources` understands.
        only: 1-based number of the one frame to decode and yield; nothing is yielded if the file has no such frame.
        options: see :class:`ReadOptions`.

    Raises:
        ImageError: the file cannot be read, or is no image.
    """
    frames = _frames(address, only, options)
    while True:
        with warnings.catch_warnings():  # entered anew for every frame: a filter must not outlive a yield
            warnings.simplefilter("ignore")
            frame = next(frames, None)
        if frame is None:
            return
        yield frame


def _frames(address: str | Path, only: int | None, options: ReadOptions) -> Iterator[Frame | BrokenFrame]:
    with open_source(address, is_image) as source:
        if is_dicom(source.start):
            from model.images.dicom import read_dicom  # pydicom takes 0.3 s to import

            yield from read_dicom(source, only, options.patient_key, skip_burned_in=options.skip_burned_in)
        elif volume_reader(source.start):
            from model.images.volumes import read_volume_frames

            yield from read_volume_frames(source, only)
        elif is_picture(source.start):
            from model.images.pictures import read_picture

            yield from read_picture(source, only)
        else:
            raise ImageError(source.address, Reason.NOT_AN_IMAGE, what_it_is(source))


def read_headers(address: str | Path, options: ReadOptions = READ_ALL) -> Iterator[tuple[int, Header]]:
    """The number and the header of each frame of an image file; of DICOM no pixel is decoded.

    Raises:
        ImageError: the file cannot be read, or is no image.
    """
    with open_source(address, is_image) as source:
        if is_dicom(source.start):
            from model.images.dicom import read_dicom_headers

            yield from read_dicom_headers(source, options.patient_key)
            return
        if volume_reader(source.start):
            from model.images.volumes import read_volume_headers

            yield from enumerate(read_volume_headers(source), 1)
            return
    for frame in read_frames(address, options=options):
        yield frame.number, frame.header


def read_chosen(address: str | Path, numbers: Sequence[int], options: ReadOptions = READ_ALL) -> list[Frame]:
    """Some frames of an image file, by their numbers; a volume is read once for all of them.

    Raises:
        ImageError: as :func:`read_frames`.
    """
    with open_source(address, is_image) as source:
        one_by_one = volume_reader(source.start) is None
    if one_by_one:
        chosen = [next(read_frames(address, number, options), None) for number in numbers]
    else:
        found = {frame.number: frame for frame in read_frames(address, options=options) if frame.number in numbers}
        chosen = [found.get(number) for number in numbers]
    if None in chosen:
        raise ImageError(address, Reason.UNREADABLE, f"it has no frame {numbers[chosen.index(None)]}")
    return [frame for frame in chosen if frame]


def is_image(start: bytes) -> bool:
    """Whether a file that starts so may be an image that can be read."""
    return is_dicom(start) or is_picture(start) or volume_reader(start) is not None


def is_picture(start: bytes) -> bool:
    """Whether a file that starts so is a picture of a known format."""
    is_webp = start[:4] == b"RIFF" and start[8:12] == b"WEBP"
    return start.startswith(_PICTURE_SIGNATURES) or is_webp or is_heif(start) or is_avif(start)


def is_dicom(start: bytes) -> bool:
    """Whether a file that starts so is DICOM."""
    if start[128:132] == b"DICM":
        return True
    if len(start) < 8:
        return False
    # Without the prefix: a dataset starts with group 0002 or 0008, whose element numbers are small.
    group, element = start[0:2], start[2:4]
    little = group in (b"\x02\x00", b"\x08\x00") and element[1] == 0
    big = group in (b"\x00\x02", b"\x00\x08") and element[0] == 0
    return little or big
