"""Any image file into grey frames, the format told by the file's content and never by its name."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from pathlib import Path

from model.errors import ImageError, Reason
from model.frames import Frame

WHOLE_FILE_LIMIT = 2**25
"""Bytes up to which a file is read at once; of larger ones a frame at a time is in memory."""

_START = 132
"""Bytes by which a format is told: the preamble and prefix of DICOM."""

_PICTURE_SIGNATURES = (
    b"\xff\xd8\xff",  # JPEG
    b"\x89PNG\r\n\x1a\n",
    b"II*\x00",  # TIFF, little-endian; then big-endian, then BigTIFF of both kinds
    b"MM\x00*",
    b"II+\x00",
    b"MM\x00+",
    b"BM",
)


def read_frames(path: str | Path) -> Iterator[Frame]:
    """Yield the frames of an image file, in order.

    DICOM is recognised by its prefix (PS3.10 section 7.1) or, without one, by a first data element of the groups with
    which a dataset starts. Warnings of the decoders are silenced: what matters of them becomes an error.

    Raises:
        ImageError: the file cannot be read, is no image, or one of its frames cannot be decoded.
    """
    path = Path(path)
    frames = _frames(path)
    while True:
        with warnings.catch_warnings():  # entered anew for every frame: a filter must not outlive a yield
            warnings.simplefilter("ignore")
            frame = next(frames, None)
        if frame is None:
            return
        yield frame


def _frames(path: Path) -> Iterator[Frame]:
    try:
        with path.open("rb") as file:
            large = os.fstat(file.fileno()).st_size > WHOLE_FILE_LIMIT
            content = file.read(_START if large else -1)
    except OSError as error:
        raise ImageError(path, Reason.UNREADABLE, error.strerror or str(error)) from error
    if not content:
        raise ImageError(path, Reason.EMPTY_FILE, "the file has no content")
    whole = None if large else content
    if _is_dicom(content[:_START]):
        from model.dicom import read_dicom  # pydicom takes 0.3 s to import

        yield from read_dicom(path, whole)
    elif content.startswith(_PICTURE_SIGNATURES):
        from model.pictures import read_picture

        yield from read_picture(path, whole)
    else:
        raise ImageError(path, Reason.NOT_AN_IMAGE, "neither DICOM, TIFF, PNG, JPEG nor BMP by its content")


def _is_dicom(start: bytes) -> bool:
    if start[128:132] == b"DICM":
        return True
    if len(start) < 8:
        return False
    # Without the prefix: a dataset starts with group 0002 or 0008, whose element numbers are small.
    group, element = start[0:2], start[2:4]
    little = group in (b"\x02\x00", b"\x08\x00") and element[1] == 0
    big = group in (b"\x00\x02", b"\x00\x08") and element[0] == 0
    return little or big
