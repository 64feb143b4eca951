from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from model.images.reading import read_frames

RAMP = np.linspace(0, 255, 64).astype(np.uint8).reshape(8, 8)


def test_formats_give_the_same_grey(tmp_path: Path) -> None:
    for suffix in ("png", "tif", "bmp"):
        Image.fromarray(RAMP).save(tmp_path / f"ramp.{suffix}")
        assert (next(read_frames(tmp_path / f"ramp.{suffix}")).pixels == RAMP).all()
    Image.fromarray(RAMP).save(tmp_path / "ramp.jpg", quality=95)
    assert np.abs(next(read_frames(tmp_path / "ramp.jpg")).pixels.astype(int) - RAMP).max() < 12


def test_deep_pictures_are_scaled_from_least_to_greatest(tmp_path: Path) -> None:
    Image.fromarray(RAMP.astype(np.uint16) * 10 + 500).save(tmp_path / "deep.png")
    Image.fromarray(RAMP.astype(np.float32) / 3 - 40).save(tmp_path / "float.tif")
    for name in ("deep.png", "float.tif"):
        assert np.abs(next(read_frames(tmp_path / name)).pixels.astype(int) - RAMP).max() <= 1


def test_pages_of_a_tiff_are_frames(tmp_path: Path) -> None:
    pages = [Image.fromarray(np.full((4, 4), value, np.uint8)) for value in (10, 20, 30)]
    pages[0].save(tmp_path / "pages.tif", save_all=True, append_images=pages[1:])
    frames = list(read_frames(tmp_path / "pages.tif"))
    assert [(frame.number, frame.of, int(frame.pixels[0, 0])) for frame in frames] == [
        (1, 3, 10),
        (2, 3, 20),
        (3, 3, 30),
    ]
    assert len({frame.identity for frame in frames}) == 3


def test_exif_rotation_is_applied(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(np.tile(RAMP, (1, 2))).save(tmp_path / "turned.jpg", exif=exif)
    assert next(read_frames(tmp_path / "turned.jpg")).pixels.shape == (16, 8)


def test_transparency_is_black_and_palettes_are_colours(tmp_path: Path) -> None:
    Image.fromarray(np.dstack([np.full((4, 4), 255, np.uint8)] * 3 + [np.zeros((4, 4), np.uint8)])).save(
        tmp_path / "a.png"
    )
    assert next(read_frames(tmp_path / "a.png")).pixels.max() == 0
    Image.fromarray(RAMP).convert("P").save(tmp_path / "p.png")
    assert (next(read_frames(tmp_path / "p.png")).pixels == RAMP).all()


def test_copies_are_one_picture_whatever_their_name(tmp_path: Path) -> None:
    Image.fromarray(RAMP).save(tmp_path / "one.png")
    (tmp_path / "two").write_bytes((tmp_path / "one.png").read_bytes())
    assert next(read_frames(tmp_path / "one.png")).identity == next(read_frames(tmp_path / "two")).identity


def test_deep_white_is_zero_is_inverted(tmp_path: Path) -> None:
    Image.fromarray(RAMP.astype(np.uint16) * 100).save(tmp_path / "inverse.tif", tiffinfo={262: 0})
    assert next(read_frames(tmp_path / "inverse.tif")).pixels[0, 0] == 255
