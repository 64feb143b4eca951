"""Pages of TIFF files that Pillow does not read, or reads as other numbers than they are: by tifffile and imagecodecs.

Those are samples that are signed, deeper than 8 bits, or floating point, planes one behind the other, and BigTIFF.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from io import BytesIO
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from model.display import picture_to_grey
from model.errors import ImageError, Reason
from model.frames import GreyImage
from model.sources import Source, say

_ORIENTATION = 274
"""TIFF 6.0, section 8."""

_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}

logging.getLogger("tifffile").setLevel(logging.CRITICAL)  # what matters of it becomes an error here


def is_tiff(start: bytes) -> bool:
    """Whether a file that starts so is TIFF or BigTIFF."""
    return start[:4] in {b"II*\x00", b"MM\x00*", b"II+\x00", b"MM\x00+"}


def needs_tifffile(source: Source) -> bool:
    """Whether any page of a TIFF file is of a kind that Pillow does not show rightly.

    A file that cannot be parsed is left to Pillow, which may be more forgiving.
    """
    import tifffile

    try:
        with tifffile.TiffFile(_file(source)) as file:
            return file.is_bigtiff or any(_is_special(page) for page in file.pages)
    except Exception:  # tifffile raises what its parsers of damaged files raise
        return False


def read_pages(source: Source, only: int | None, limit: int) -> Iterator[tuple[GreyImage, int, int]]:
    """Yield the pages as displayed, each with its number and how many there are.

    Args:
        source: a file for which :func:`needs_tifffile` holds.
        only: 1-based number of the one page to decode.
        limit: pixels of a page above which it is left out.

    Raises:
        ImageError: a page is too large, of a kind that is no picture, or cannot be decoded.
    """
    import tifffile

    with tifffile.TiffFile(_file(source)) as file:
        count = len(file.pages)
        if not count:
            raise ImageError(source.address, Reason.CORRUPT, "the picture's header cannot be parsed")
        for number in range(1, count + 1) if only is None else [only] * (1 <= only <= count):
            page: Any = file.pages[number - 1]
            if page.imagewidth * page.imagelength > limit:
                size = f"{page.imagewidth} × {page.imagelength} pixels, limit {limit:,}"
                raise ImageError(source.address, Reason.TOO_LARGE, size)
            yield _displayed(source, page), number, count


def _file(source: Source) -> Any:
    return BytesIO(source.content) if source.content else str(source.path)


def _is_special(page: Any) -> bool:
    return page.bitspersample not in {1, 2, 4, 8} or page.sampleformat != 1 or page.planarconfig == 2


def _displayed(source: Source, page: Any) -> GreyImage:
    samples, photometric = int(page.samplesperpixel), int(page.photometric)
    if samples not in {1, 2, 3, 4} or photometric not in {0, 1, 2, 3}:
        what = f"{samples} samples a pixel, photometric interpretation {photometric}"
        raise ImageError(source.address, Reason.UNSUPPORTED, f"TIFF with {what}")
    try:
        values: NDArray[Any] = np.squeeze(page.asarray())
    except (ValueError, KeyError, NotImplementedError) as error:
        if page.compression != 1:
            raise ImageError(source.address, Reason.UNSUPPORTED, say(error, source.address)) from error
        raise
    if values.ndim == 3 and page.planarconfig == 2:
        values = np.moveaxis(values, 0, -1)
    if photometric == 3:
        colours = np.asarray(page.colormap)[:, values]  # of 16 bits
        values = np.moveaxis(colours, 0, -1)
    grey = picture_to_grey(values, white_is_zero=photometric == 0)
    turn = _TURNS.get(int(page.tags.valueof(_ORIENTATION, 1) or 1))
    return grey if turn is None else np.asarray(Image.fromarray(grey).transpose(turn))
