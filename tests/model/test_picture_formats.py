"""Formats of pictures beside those of every day, each written by a library and read again."""

from __future__ import annotations

import io
from pathlib import Path

import imagecodecs
import numpy as np
import pytest
import tifffile
from PIL import Image, PngImagePlugin

from model.errors import ImageError, Reason
from model.reading import read_frames

RAMP = np.tile(np.arange(64, dtype=np.uint8) * 4, (64, 1))
DEEP = RAMP.astype(np.uint16) * 16
COLOUR = np.stack([RAMP, RAMP, RAMP], axis=-1)


def shown(path: Path) -> np.ndarray:
    [frame] = read_frames(path)
    return np.asarray(frame.pixels, dtype=int)


def stretched(values: np.ndarray) -> np.ndarray:
    return np.asarray(np.rint((values - values.min()) / (values.max() - values.min()) * 255), dtype=int)


@pytest.mark.parametrize("name", ["GIF", "WEBP", "PPM", "BMP", "PNG"])
def test_formats_of_pillow(tmp_path: Path, name: str) -> None:
    Image.fromarray(RAMP).save(tmp_path / "picture", name, **({"lossless": True} if name == "WEBP" else {}))
    assert np.abs(shown(tmp_path / "picture") - RAMP).max() <= 1


@pytest.mark.parametrize(
    ("stream", "expected"),
    [
        (imagecodecs.jpegxl_encode(RAMP, lossless=True), RAMP.astype(int)),
        (imagecodecs.jpegxl_encode(DEEP, lossless=True), stretched(DEEP)),
        (imagecodecs.jpegxl_encode(COLOUR, lossless=True), RAMP.astype(int)),
        (imagecodecs.jpegls_encode(DEEP), stretched(DEEP)),
        (imagecodecs.jpeg8_encode(DEEP, level=100, bitspersample=12), stretched(DEEP)),
    ],
    ids=["JPEG XL", "JPEG XL, 16 bits", "JPEG XL, colour", "JPEG-LS", "JPEG, 12 bits"],
)
def test_formats_of_imagecodecs(tmp_path: Path, stream: bytes, expected: np.ndarray) -> None:
    (tmp_path / "picture").write_bytes(stream)
    assert np.abs(shown(tmp_path / "picture") - expected).max() <= 2
    (tmp_path / "cut").write_bytes(stream[: len(stream) // 2])
    with pytest.raises(ImageError) as caught:
        shown(tmp_path / "cut")
    assert caught.value.reason is Reason.CORRUPT


@pytest.mark.parametrize(
    "values",
    [
        (RAMP.astype(np.int16) - 128).astype(np.int8),
        DEEP.astype(np.int16) - 900,
        DEEP.astype(np.uint32) * 100_000,
        DEEP.astype(np.int32) - 5,
        DEEP.astype(np.float16),
        DEEP.astype(np.float64) / 7,
        DEEP.astype(np.uint64),
    ],
    ids=lambda values: str(values.dtype),
)
@pytest.mark.parametrize("big", [False, True], ids=["TIFF", "BigTIFF"])
def test_numbers_of_tiff(tmp_path: Path, values: np.ndarray, big: bool) -> None:
    path = tmp_path / "picture"
    tifffile.imwrite(path, values, photometric="minisblack", bigtiff=big, byteorder=">" if big else "<")
    assert np.abs(shown(tmp_path / "picture") - stretched(values.astype(np.float64))).max() <= 1


def test_colours_of_tiff(tmp_path: Path) -> None:
    deep = COLOUR.astype(np.uint16) * 257
    tifffile.imwrite(tmp_path / "planes", np.moveaxis(deep, -1, 0), photometric="rgb", planarconfig="separate")
    tifffile.imwrite(tmp_path / "chunky", deep, photometric="rgb")
    tifffile.imwrite(tmp_path / "float", COLOUR.astype(np.float32) / 252, photometric="rgb")
    tifffile.imwrite(tmp_path / "white", RAMP.astype(np.uint16), photometric="miniswhite")
    for name in ("planes", "chunky", "float"):
        assert np.abs(shown(tmp_path / name) - stretched(RAMP)).max() <= 1, name
    assert np.abs(shown(tmp_path / "white") - (255 - stretched(RAMP))).max() <= 1
    pages = [RAMP.astype(np.uint16), RAMP[::-1].astype(np.uint16)]
    tifffile.imwrite(tmp_path / "pages", np.stack(pages), photometric="minisblack")
    assert [frame.number for frame in read_frames(tmp_path / "pages")] == [1, 2]
    assert [frame.number for frame in read_frames(tmp_path / "pages", only=2)] == [2]
    tifffile.imwrite(
        tmp_path / "five", np.zeros((64, 64, 5), np.uint8), photometric="minisblack", planarconfig="contig"
    )
    with pytest.raises(ImageError) as caught:
        shown(tmp_path / "five")
    assert caught.value.reason is Reason.UNSUPPORTED


def test_a_png_with_much_text(tmp_path: Path) -> None:
    text = PngImagePlugin.PngInfo()
    text.add_text("comment", "x" * 3_000_000, zip=True)
    data = io.BytesIO()
    Image.fromarray(RAMP).save(data, "PNG", pnginfo=text)
    (tmp_path / "picture").write_bytes(data.getvalue())
    assert np.array_equal(shown(tmp_path / "picture"), RAMP)
