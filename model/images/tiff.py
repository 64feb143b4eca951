"""Pages of TIFF files that Pillow does not read, or reads as other numbers than they are: by tifffile and imagecodecs.

Those are samples that are signed, deeper than 8 bits, or floating point, planes one behind the other, CIE L*a*b*,
BigTIFF, and code streams that libtiff does not have (JPEG 2000, JPEG XL, WebP, LERC).
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from io import BytesIO
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms

from model.errors import ImageError, Reason
from model.images.display import show_picture
from model.images.frames import BrokenFrame, Shown
from model.images.sources import Source, describe_error

_ORIENTATION = 274
"""TIFF 6.0, section 8."""

_OF_PILLOW = frozenset({1, 2, 3, 4, 5, 6, 7, 8, 32773, 32946, 34925, 50000})
"""Compressions of the libtiff that Pillow brings: fax, LZW, JPEG, deflate, PackBits, LZMA, Zstandard."""

_WHITE_IS_ZERO, _PALETTE, _SEPARATED, _CIE_LAB, _ICC_LAB = 0, 3, 5, 8, 9
"""Photometric interpretations (TIFF 6.0 sections 8, 16, 23; TIFF Technical Note 4)."""

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


def read_pages(source: Source, only: int | None, limit: int) -> Iterator[tuple[Shown | BrokenFrame, int, int]]:
    """Yield the pages as displayed, or why one is not, each with its number and how many there are.

    Args:
        source: a file for which :func:`needs_tifffile` holds.
        only: 1-based number of the one page to decode.
        limit: pixels of a page above which it is left out.

    Raises:
        ImageError: there is no page.
    """
    import tifffile

    with tifffile.TiffFile(_file(source)) as file:
        count = len(file.pages)
        if not count:
            raise ImageError(source.address, Reason.CORRUPT, "the picture's header cannot be parsed")
        for number in range(1, count + 1) if only is None else [only] * (1 <= only <= count):
            page: Any = file.pages[number - 1]
            yield _page(source, page, number, count, limit), number, count


def _page(source: Source, page: Any, number: int, count: int, limit: int) -> Shown | BrokenFrame:
    if page.imagewidth * page.imagelength > limit:
        size = f"{page.imagewidth} × {page.imagelength} pixels, limit {limit:,}"
        return BrokenFrame(number, count, Reason.TOO_LARGE, size)
    try:
        return _displayed(page)
    except NotImplementedError as error:
        return BrokenFrame(number, count, Reason.UNSUPPORTED, describe_error(error, source.address))
    except Exception as error:  # tifffile and imagecodecs raise whatever they like of damaged pages
        return BrokenFrame(number, count, Reason.CORRUPT, describe_error(error, source.address))


def _file(source: Source) -> Any:
    return BytesIO(source.content) if source.content else str(source.path)


def _is_special(page: Any) -> bool:
    return (
        page.bitspersample not in {1, 2, 4, 8}
        or page.sampleformat != 1
        or page.planarconfig == 2
        or page.compression not in _OF_PILLOW
        or page.photometric in {_CIE_LAB, _ICC_LAB}
        or (page.samplesperpixel == 2 and 1 in page.extrasamples)
    )


def _displayed(page: Any) -> Shown:
    """A page as displayed.

    Raises:
        NotImplementedError: it is no picture, or its compression is not known here.
        Exception: what tifffile raises of damaged pages.
    """
    samples, photometric = int(page.samplesperpixel), int(page.photometric)
    if samples not in {1, 2, 3, 4} or photometric not in {0, 1, 2, _PALETTE, _SEPARATED, 6, _CIE_LAB, _ICC_LAB}:
        raise NotImplementedError(f"TIFF with {samples} samples a pixel, photometric interpretation {photometric}")
    try:
        values: NDArray[Any] = np.squeeze(page.asarray())
    except (ValueError, KeyError, NotImplementedError) as error:
        if page.compression != 1:
            raise NotImplementedError(str(error)) from error
        raise
    if values.ndim == 3 and page.planarconfig == 2:
        values = np.moveaxis(values, 0, -1)
    if photometric == _PALETTE:
        colours = np.asarray(page.colormap)[:, values]  # of 16 bits
        values = np.moveaxis(colours, 0, -1)
    elif photometric == _SEPARATED and samples == 4:
        values = _rgb_of_inks(values)
    elif photometric in {_CIE_LAB, _ICC_LAB} and samples >= 3:
        values = _rgb_of_lab(values[..., :3], signed=photometric == _CIE_LAB)
    elif samples in {2, 4}:
        values = _on_black(values, int(page.extrasamples[0]) if page.extrasamples else 0)
    shown = show_picture(values, white_is_zero=photometric == _WHITE_IS_ZERO)
    turn = _TURNS.get(int(page.tags.valueof(_ORIENTATION, 1) or 1))
    if turn is None:
        return shown
    colour = None if shown.colour is None else np.asarray(Image.fromarray(shown.colour).transpose(turn))
    return Shown(np.asarray(Image.fromarray(shown.grey).transpose(turn)), colour)


def _greatest(values: NDArray[Any]) -> float:
    return float(np.iinfo(values.dtype).max) if values.dtype.kind in "iu" else 1.0


def _on_black(values: NDArray[Any], alpha: int) -> NDArray[Any]:
    """Samples on a black ground, as on a viewer's; ``alpha`` is TIFF's ExtraSamples, 1 if they lie there already."""
    colours = values[..., :-1]
    if alpha == 2:
        colours = (colours * (values[..., -1:] / _greatest(values))).astype(values.dtype)
    return colours


def _rgb_of_inks(values: NDArray[Any]) -> NDArray[Any]:
    """RGB of cyan, magenta, yellow and black, as Pillow has it: without a colour profile."""
    greatest = _greatest(values)
    light = (greatest - values.astype(np.float64)) / greatest
    return np.rint(light[..., :3] * light[..., 3:] * greatest).astype(values.dtype)


def _rgb_of_lab(values: NDArray[Any], *, signed: bool) -> NDArray[np.uint8]:
    """SRGB of CIE L*a*b* of 8 or 16 bits, whose a* and b* have a sign or an offset."""
    if values.dtype.itemsize not in {1, 2} or values.dtype.kind == "f":
        raise NotImplementedError(f"CIE L*a*b* as {values.dtype}")
    if values.dtype.itemsize == 2:
        values = values.astype(np.uint16) >> 8
    lab = values.astype(np.uint8)
    if not signed:
        lab = lab ^ np.array([0, 128, 128], np.uint8)
    picture = Image.frombytes("LAB", (lab.shape[1], lab.shape[0]), np.ascontiguousarray(lab).tobytes(), "raw", "LAB")
    profiles = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
    return np.asarray(ImageCms.applyTransform(picture, ImageCms.buildTransform(*profiles, "LAB", "RGB")))
