"""Formats of pictures beside those of every day, each written by a library and read again."""

from __future__ import annotations

import io
import sys
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pillow_heif
import pytest
import tifffile
from PIL import Image, PngImagePlugin

from model.errors import ImageError, Reason
from model.images.frames import BrokenFrame, Frame
from model.images.reading import read_each_frame, read_frames

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


def test_a_page_that_says_it_is_enormous_costs_itself_only(tmp_path: Path) -> None:
    pages = [Image.fromarray(np.full((48, 48), 60 * number, np.uint8)) for number in (1, 2, 3)]
    content = io.BytesIO()
    pages[0].save(content, format="GIF", save_all=True, append_images=pages[1:])
    damaged = bytearray(content.getvalue())
    descriptors = [at for at in range(len(damaged)) if damaged[at : at + 5] == b"\x2c\0\0\0\0"]
    damaged[descriptors[1] + 5 : descriptors[1] + 9] = b"\xff\xff\xff\xff"  # its width and height
    (tmp_path / "pages.gif").write_bytes(damaged)
    first, second, *_ = read_each_frame(tmp_path / "pages.gif")
    assert isinstance(first, Frame)
    assert isinstance(second, BrokenFrame)
    assert second.reason is Reason.TOO_LARGE


@pytest.mark.parametrize("name", ["HEIF", "AVIF", "JPEG2000", "WEBP"])
def test_pictures_of_phones_and_archives(tmp_path: Path, name: str) -> None:
    pillow_heif.register_heif_opener()
    Image.fromarray(COLOUR).save(tmp_path / "picture", format=name)
    [frame] = read_frames(tmp_path / "picture")
    assert np.abs(frame.pixels.astype(int) - RAMP).mean() < 3


def test_heic_without_its_library_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    (tmp_path / "photo").write_bytes(b"\0\0\0\x18ftypheic" + bytes(200))
    with pytest.raises(ImageError, match=r"install the extra cbmir\[heic\]") as caught:
        list(read_frames(tmp_path / "photo"))
    assert caught.value.reason is Reason.UNSUPPORTED


@pytest.mark.parametrize("deep", [False, True])
def test_transparency_shows_the_ground(tmp_path: Path, deep: bool) -> None:
    alpha = np.full_like(RAMP, 255)
    alpha[:, :8] = 0
    factor, kind = (257, np.uint16) if deep else (1, np.uint8)
    grey = np.stack([RAMP, RAMP, RAMP, alpha], axis=-1).astype(kind) * factor
    tifffile.imwrite(tmp_path / "straight", grey, photometric="rgb", extrasamples=["unassalpha"])
    [frame] = read_frames(tmp_path / "straight")
    assert (frame.pixels[:, :8] == 0).all()
    black = grey.copy()
    black[:, :8, :3] = 0
    tifffile.imwrite(tmp_path / "premultiplied", black, photometric="rgb", extrasamples=["assocalpha"])
    [same] = read_frames(tmp_path / "premultiplied")
    assert np.abs(same.pixels.astype(int) - frame.pixels).max() <= 1


@pytest.mark.parametrize("photometric", ["cielab", "icclab"])
@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
def test_lightness_of_cie_lab(tmp_path: Path, photometric: str, kind: type) -> None:
    neutral = 0 if photometric == "cielab" else 128
    lab: Any = np.stack([RAMP, np.full_like(RAMP, neutral), np.full_like(RAMP, neutral)], axis=-1).astype(kind)
    tifffile.imwrite(tmp_path / "lab", lab * (256 if kind is np.uint16 else 1), photometric=photometric)
    [frame] = read_frames(tmp_path / "lab")
    y = ((RAMP / 255 * 100 + 16) / 116) ** 3
    y = np.where(RAMP / 2.55 <= 8, RAMP / 2.55 / 903.3, y)  # CIE 1976
    srgb = np.where(y <= 0.0031308, 12.92 * y, 1.055 * y ** (1 / 2.4) - 0.055) * 255
    assert np.abs(frame.pixels - srgb).max() <= 2


@pytest.mark.parametrize("compression", ["jpeg2000", "jpegxl", "webp", "zstd", "lerc"])
def test_code_streams_inside_tiff(tmp_path: Path, compression: str, capfd: pytest.CaptureFixture[str]) -> None:
    tifffile.imwrite(tmp_path / "one", COLOUR, photometric="rgb", compression=compression)
    [frame] = read_frames(tmp_path / "one")
    assert np.abs(frame.pixels.astype(int) - RAMP).mean() < 3
    assert capfd.readouterr().err == "", "libtiff writes to the terminal"


def test_exif_that_cannot_be_parsed_costs_nothing(tmp_path: Path) -> None:
    Image.fromarray(RAMP).save(tmp_path / "one.png", exif=b"Exif\0\0no TIFF at all")
    Image.fromarray(RAMP).save(tmp_path / "two.png", exif=b"Exif\0\0MM\0*\0\0\xff\xff")
    for name in ("one.png", "two.png"):
        [frame] = read_frames(tmp_path / name)
        assert (frame.pixels == RAMP).all()
