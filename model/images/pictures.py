"""Picture files into grey frames: by Pillow, and by tifffile or imagecodecs what it does not show rightly."""

from __future__ import annotations

import hashlib
import itertools
import struct
from collections.abc import Iterator
from io import BytesIO

import numpy as np
from PIL import Image, ImageOps, PngImagePlugin, UnidentifiedImageError

from model.errors import ImageError, Reason
from model.images.code_streams import decode, frame_header, needs_imagecodecs
from model.images.display import scale_to_range, show_picture
from model.images.frames import BrokenFrame, Frame, Header, Shown
from model.images.heif import is_heif, open_heif
from model.images.sources import Source, describe_error
from model.images.tiff import is_tiff, needs_tifffile, read_pages

FORMATS = ("TIFF", "PNG", "JPEG", "BMP", "GIF", "WEBP", "PPM", "JPEG2000", "AVIF")

MAX_PICTURE_PIXELS = 2**27
"""Width × height above which a picture is left out; checked before a pixel is decoded."""

_TOO_LARGE = f"more than {MAX_PICTURE_PIXELS:,} pixels"

PngImagePlugin.MAX_TEXT_CHUNK = 2**26  # colour profiles and texts of PNG are inflated, and not used
PngImagePlugin.MAX_TEXT_MEMORY = 2**27

Image.MAX_IMAGE_PIXELS = MAX_PICTURE_PIXELS // 2  # twice of it Pillow refuses: pages may be larger than the first

_PHOTOMETRIC_INTERPRETATION, _WHITE_IS_ZERO = 262, 0
"""TIFF 6.0, section 8."""

_GREY_MODES = {"1", "L"}

_HIGH_DEPTH_MODES = {"I", "F", "I;16", "I;16B", "I;16L", "I;16N"}


def read_picture(source: Source, only: int | None = None) -> Iterator[Frame | BrokenFrame]:
    """Yield the pages of a picture file in order; the orientation of EXIF is applied.

    8-bit pictures are taken as they are, colour as luma (ITU-R 601); deeper ones, which carry no window, are scaled
    from their least to their greatest value. ``only`` is the 1-based number of the one page to decode and yield.

    Raises:
        ImageError: the file cannot be decoded, or is of a kind that cannot be read here.
    """
    path = source.address
    try:
        identity = _digest(source)
        for page, number, count in _pages_of(source, only):
            if isinstance(page, BrokenFrame):
                yield page
            else:
                yield Frame(page.grey, number, count, f"file/{identity}/{number}", Header(), page.colour)
    except ImageError:
        raise
    except Image.DecompressionBombError as error:
        raise ImageError(path, Reason.TOO_LARGE, _TOO_LARGE) from error
    except UnidentifiedImageError as error:
        raise ImageError(path, Reason.CORRUPT, "the picture's header cannot be parsed") from error
    except Exception as error:  # Pillow's plug-ins raise OSError, SyntaxError, struct.error, zlib.error and more
        raise ImageError(path, Reason.CORRUPT, describe_error(error, path)) from error


def _pages_of(source: Source, only: int | None) -> Iterator[tuple[Shown | BrokenFrame, int, int]]:
    """The pages, each with its number and how many there are."""
    formats: tuple[str, ...] = FORMATS
    if is_heif(source.start):
        formats = (open_heif(source.address),)
    if not is_tiff(source.start) and needs_imagecodecs(source.content or source.start):
        if only in (None, 1):
            yield _decoded(source), 1, 1
        return
    if is_tiff(source.start) and reads_by_tifffile(source):
        yield from read_pages(source, only, MAX_PICTURE_PIXELS)
        return
    with Image.open(BytesIO(source.content) if source.content else source.path, formats=formats) as picture:
        count = _pages(picture)
        for number in range(1, count + 1) if only is None else [only] * (1 <= only <= count):
            yield _page(source, picture, number, count), number, count


def _page(source: Source, picture: Image.Image, number: int, count: int) -> Shown | BrokenFrame:
    try:
        picture.seek(number - 1)
        if picture.width * picture.height > MAX_PICTURE_PIXELS:
            size = f"{picture.width} × {picture.height} pixels, limit {MAX_PICTURE_PIXELS:,}"
            return BrokenFrame(number, count, Reason.TOO_LARGE, size)
        return _show(picture)
    except Image.DecompressionBombError:
        return BrokenFrame(number, count, Reason.TOO_LARGE, _TOO_LARGE)
    except MemoryError as error:
        raise ImageError(source.address, Reason.UNREADABLE, "there is too little memory to decode it") from error
    except Exception as error:  # what Pillow's plug-ins raise, see above
        return BrokenFrame(number, count, Reason.CORRUPT, describe_error(error, source.address))


def _decoded(source: Source) -> Shown:
    """A picture that is no matter for Pillow."""
    stream = source.content or source.path.read_bytes()
    header = frame_header(stream)
    if header and header.rows * header.columns > MAX_PICTURE_PIXELS:
        size = f"{header.columns} × {header.rows} pixels, limit {MAX_PICTURE_PIXELS:,}"
        raise ImageError(source.address, Reason.TOO_LARGE, size)
    return show_picture(decode(stream))


def reads_by_tifffile(source: Source) -> bool:
    """Whether a TIFF file is read by tifffile: Pillow does not show it rightly, or not at all."""
    return needs_tifffile(source) or not _opens(source)


def _opens(source: Source) -> bool:
    try:
        with Image.open(BytesIO(source.content) if source.content else source.path, formats=FORMATS):
            return True
    except UnidentifiedImageError:
        return False


def _pages(picture: Image.Image) -> int:
    """How many pages there are; of a JPEG with further pictures behind it (MPO) only those that are whole."""
    try:
        pages = int(getattr(picture, "n_frames", 1))
    except Exception:  # of a TIFF whose last page directory is cut off
        return _pages_before_the_damage(picture) + 1
    if picture.format != "MPO":
        return pages
    for number in range(1, pages):
        try:
            picture.seek(number)
        except (ValueError, EOFError, OSError):  # cut off, or written wrongly: the first picture is whole
            pages = number
            break
    picture.seek(0)
    return pages


def _pages_before_the_damage(picture: Image.Image) -> int:
    for number in itertools.count():
        try:
            picture.seek(number)
        except Exception:  # the page that is read next says what is wrong with it
            return number
    raise AssertionError("a file has an end")


def _digest(source: Source) -> str:
    if source.content:
        return hashlib.sha256(source.content).hexdigest()
    with source.path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _upright(page: Image.Image) -> Image.Image:
    """A page turned as its EXIF says; one whose EXIF cannot be parsed is taken as it lies."""
    try:
        return ImageOps.exif_transpose(page)
    except (SyntaxError, ValueError, KeyError, TypeError, struct.error):
        return page


def _show(page: Image.Image) -> Shown:
    upright = _upright(page)
    if upright.mode in _HIGH_DEPTH_MODES:
        display = scale_to_range(np.asarray(upright))
        if getattr(page, "tag_v2", {}).get(_PHOTOMETRIC_INTERPRETATION) == _WHITE_IS_ZERO:
            display = 1.0 - display  # Pillow does this for 8 bits only
        return Shown(np.asarray(np.rint(display * 255.0), dtype=np.uint8))
    if upright.mode in {"RGBA", "LA", "PA"} or "transparency" in upright.info:
        # What is transparent shows as black, as on a viewer's background.
        rgba = upright.convert("RGBA")
        upright = Image.alpha_composite(Image.new("RGBA", rgba.size, (0, 0, 0, 255)), rgba)
    colour = None if upright.mode in _GREY_MODES else np.asarray(upright.convert("RGB"))
    return Shown(np.asarray(upright.convert("L")), colour)
