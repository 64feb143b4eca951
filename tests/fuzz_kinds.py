"""Kinds of fault that files of the world have, made by a seed: headers that lie, frames that are broken, odd pictures.

Byte for byte damage (:mod:`tests.fuzz`) seldom makes them: a header must still be whole to lie.
"""

from __future__ import annotations

import io
import random
import tarfile
import warnings
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import tifffile
from numpy.typing import NDArray
from PIL import Image
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate, generate_fragments
from pydicom.sequence import Sequence as Items
from pydicom.uid import AllTransferSyntaxes

from model.images.fragments import ITEM
from tests.support import phantoms

_WRITTEN = ("", "40,5", "1e400", "NaN", "wide", "-0", "400 HU", "0\\1", "\\7", "99999999999999999999", "0x10", "\x00")
"""Values of text elements as archives have them, or worse."""

_PHOTOMETRIC = (
    *("MONOCHROME1", "MONOCHROME2", "monochrome2 ", "RGB", "YBR_FULL", "YBR_FULL_422", "YBR_PARTIAL_422", "YBR_RCT"),
    *("YBR_ICT", "PALETTE COLOR", "PALETTECOLOR", "HSV", "XYB", ""),
)

_COUNTS = (
    *("Rows", "Columns", "SamplesPerPixel", "BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation"),
    *("PlanarConfiguration", "PixelPaddingValue", "PixelPaddingRangeLimit", "NumberOfFrames"),
)

_NUMBERS = (0, 1, 2, 3, 7, 8, 11, 12, 15, 16, 31, 32, 33, 64, 255, 4096, 65535)


def header_that_lies(rng: random.Random, content: bytes) -> bytes:
    """A DICOM file with some elements of its header changed, removed, or of another VR; other files as they are."""
    ds = _parse(content)
    if ds is None:
        return content
    for _ in range(rng.choice((1, 1, 2, 4))):
        rng.choice(_LIES)(rng, ds)
    return _written(ds, content)


def pixel_data_that_lie(rng: random.Random, content: bytes) -> bytes:
    """A DICOM file whose pixel data are cut, padded, of another form than its transfer syntax, or whose frames are."""
    ds = _parse(content)
    if ds is None or "PixelData" not in ds or not isinstance(ds.PixelData, bytes):
        return content
    rng.choice(_PIXEL_LIES)(rng, ds)
    return _written(ds, content)


def _set_text(rng: random.Random, ds: Dataset) -> None:
    keyword = rng.choice(
        ("WindowCenter", "WindowWidth", "RescaleSlope", "RescaleIntercept", "NumberOfFrames", "PixelPaddingValue")
    )
    _add(ds, keyword, "LO", rng.choice(_WRITTEN))


def _set_number(rng: random.Random, ds: Dataset) -> None:
    keyword = rng.choice(_COUNTS)
    vr = "IS" if keyword == "NumberOfFrames" else rng.choice(("US", "US", "UL", "SS"))
    value = rng.choice(_NUMBERS)
    _add(ds, keyword, vr, min(value, 32767) if vr == "SS" else value)


def _set_photometric(rng: random.Random, ds: Dataset) -> None:
    _add(ds, "PhotometricInterpretation", "CS", rng.choice(_PHOTOMETRIC))
    _add(ds, "PresentationLUTShape", "CS", rng.choice(("IDENTITY", "INVERSE", "LIN OD", "")))


def _remove(rng: random.Random, ds: Dataset) -> None:
    inside = [element.tag for element in ds if element.tag.group in {0x0028, 0x0008, 0x5200} and element.tag.element]
    if inside:
        del ds[rng.choice(inside)]


def _set_table(rng: random.Random, ds: Dataset) -> None:
    entries = rng.choice((0, 1, 16, 255, 256, 257, 4096))
    descriptor = [entries, rng.choice((0, 1, 1024, 63488, 65535)), rng.choice((0, 8, 10, 12, 16, 32))]
    data = np.linspace(0, rng.choice((255, 1023, 4095, 65535)), max(entries, 1)).astype(np.uint16)[:entries].tobytes()
    data = data[: rng.choice((len(data), len(data) // 2, len(data) + 1, 0))]
    name = rng.choice(("ModalityLUTSequence", "VOILUTSequence", "palette"))
    if name == "palette":
        _add(ds, "PhotometricInterpretation", "CS", "PALETTE COLOR")
        for colour in ("Red", "Green", "Blue"):
            _add(ds, f"{colour}PaletteColorLookupTableDescriptor", rng.choice(("US", "SS")), _signed(descriptor, rng))
            _add(ds, f"{colour}PaletteColorLookupTableData", "OW", data + b"\0" * (len(data) % 2))
        return
    item = Dataset()
    _add(item, "LUTDescriptor", rng.choice(("US", "SS")), _signed(descriptor, rng))
    _add(item, "LUTData", rng.choice(("OW", "OB", "UN")), data + b"\0" * (len(data) % 2))
    _add(ds, name, "SQ", Items([item] * rng.choice((0, 1, 2))))


def _signed(values: Sequence[int], _rng: random.Random) -> list[int]:
    return [value - 2**16 if value > 32767 else value for value in values]


def _set_syntax(rng: random.Random, ds: Dataset) -> None:
    ds.file_meta.TransferSyntaxUID = rng.choice(AllTransferSyntaxes)


_LIES: tuple[Callable[[random.Random, Dataset], None], ...] = (
    _set_text,
    _set_number,
    _set_photometric,
    _remove,
    _set_table,
    _set_syntax,
)


def _resize(rng: random.Random, ds: Dataset) -> None:
    length = len(ds.PixelData)
    size = rng.choice((0, 1, length // 3, length // 2, length - 1, length + 2, 2 * length))
    ds.PixelData = (ds.PixelData * 2)[:size]


def _swap_form(_rng: random.Random, ds: Dataset) -> None:
    """Fragments under a native syntax, or native pixels under a compressed one."""
    endless = ds["PixelData"].is_undefined_length
    ds.PixelData = ds.PixelData[16:] if endless else encapsulate([ds.PixelData])
    ds["PixelData"].is_undefined_length = not endless


def _break_fragments(rng: random.Random, ds: Dataset) -> None:
    if not ds["PixelData"].is_undefined_length:
        _resize(rng, ds)
        return
    fragments = [bytes(fragment) for fragment in generate_fragments(ds.PixelData)][1:]
    if not fragments:
        return
    place = rng.randrange(len(fragments))
    one = bytearray(fragments[place])
    if one:
        one[rng.randrange(len(one))] ^= 1 << rng.randrange(8)
    fragments[place] = rng.choice((bytes(one), bytes(one[: len(one) // 2]), b"", b"\0\0", bytes(one) * 2))
    more = rng.choice((b"", bytes(64), fragments[0]))
    fragments.insert(rng.choice((0, len(fragments))), more)
    ds.NumberOfFrames = rng.choice((1, len(fragments), len(fragments) + 3, int(ds.get("NumberOfFrames") or 1)))
    table = rng.choice((b"", bytes(4), (2**31).to_bytes(4, "little"), bytes(4 * len(fragments))))
    ds.PixelData = b"".join(ITEM + len(one).to_bytes(4, "little") + one for one in (table, *fragments))


_PIXEL_LIES: tuple[Callable[[random.Random, Dataset], None], ...] = (_resize, _swap_form, _break_fragments)


def _parse(content: bytes) -> Dataset | None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            ds = dcmread(io.BytesIO(content))
            ds.decode()
        except Exception:  # not DICOM, or damaged already
            return None
    return ds if len(ds) else None


def _written(ds: Dataset, before: bytes) -> bytes:
    into = io.BytesIO()
    implicit, little = ds.original_encoding
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            ds.save_as(into, implicit_vr=bool(implicit), little_endian=little is not False)
        except Exception:  # pydicom writes not every lie
            return before
    return into.getvalue()


def _add(ds: Dataset, keyword: str, vr: str, value: Any) -> None:
    if keyword in ds:
        del ds[keyword]
    ds.add_new(keyword, vr, value)


def odd_pictures() -> list[bytes]:
    """Pictures of every format and kind of sample that can be read, and of some that cannot."""
    grey = np.rint(phantoms.draw("knee", 1, 48) * 255).astype(np.uint8)
    rgb = np.stack([grey, 255 - grey, grey // 2], axis=-1)
    contents = [
        _tiff(grey.astype(kind), photometric="minisblack")
        for kind in ["b", "B", "h", "H", "i", "I", "l", "L", "e", "f", "d"]
    ]
    contents += [
        _tiff(rgb, photometric="rgb"),
        _tiff(rgb.astype(np.uint16) * 257, photometric="rgb", planarconfig="separate"),
        _tiff(np.moveaxis(rgb, -1, 0), photometric="rgb", planarconfig="separate"),
        _tiff(rgb, photometric="cielab"),
        _tiff(np.dstack([rgb, grey]), photometric="separated"),
        _tiff(np.dstack([rgb, grey]), photometric="rgb", extrasamples=["assocalpha"]),
        _tiff(np.stack([grey] * 5), photometric="minisblack"),
        _tiff(np.stack([grey] * 5, axis=-1), photometric="minisblack", planarconfig="contig"),
        _tiff(grey, bigtiff=True, byteorder=">"),
        *(_tiff(grey, compression=name) for name in ("zlib", "lzw", "packbits", "jpeg", "jpeg2000", "jpegxl", "zstd")),
        bytes(imagecodecs.jpegxl_encode(grey)),
        bytes(imagecodecs.jpegls_encode(grey)),
        bytes(imagecodecs.jpeg8_encode(grey.astype(np.uint16) << 4, bitspersample=12)),
        bytes(imagecodecs.jpeg8_encode(grey, lossless=True)),
        bytes(imagecodecs.jpeg2k_encode(grey, level=0)),
    ]
    for name in ("PNG", "JPEG", "BMP", "GIF", "WEBP", "PPM", "JPEG2000", "AVIF"):
        for picture in (Image.fromarray(grey), Image.fromarray(rgb)):
            into = io.BytesIO()
            picture.save(into, format=name)
            contents.append(into.getvalue())
    return contents


def _tiff(values: NDArray[Any], **how: Any) -> bytes:
    into = io.BytesIO()
    tifffile.imwrite(into, values, **how)
    return into.getvalue()


def pack(rng: random.Random, path: Path, contents: Sequence[bytes]) -> Path:
    """Write files into a zip or tar file beside ``path``, some under odd names; return where."""
    kinds = ("{}", "deep/{}", "/abs/{}", "./{}", "x//{}", "a::{}")
    names = [rng.choice(kinds).format(number) for number in range(len(contents))]
    if rng.random() < 0.5:
        path = path.with_suffix(".zip")
        with zipfile.ZipFile(path, "w", rng.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED))) as packed:
            for name, content in zip(names, contents, strict=True):
                packed.writestr(name, content)
        return path
    suffix, mode = rng.choice(((".tar", "w"), (".tar.gz", "w:gz"), (".tar.xz", "w:xz"), (".tgz", "w:gz")))
    path = path.with_name(path.name + suffix)
    with tarfile.open(path, mode) as packed_tar:  # type: ignore[call-overload] # the mode is a literal there
        for name, content in zip(names, contents, strict=True):
            info = tarfile.TarInfo(name)
            info.size = len(content)
            packed_tar.addfile(info, io.BytesIO(content))
    return path
