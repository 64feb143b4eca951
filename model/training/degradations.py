"""What happens to pictures on their way through the world: windows, small sizes, compression, borders, written text.

A class must not be known by them. Each source of images has its own, so that a network that sees a class from few
sources learns the source instead: its blur, its window, its black border.
"""

from __future__ import annotations

import io
import string

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

SMALLER, COMPRESSED, BORDERED, WRITTEN, WINDOWED, INVERTED, NOISY = 0.35, 0.15, 0.15, 0.2, 0.35, 0.08, 0.2
"""Shares of the images to which each happens."""

LEAST_SIDE = 48
"""Pixels of the smallest size that images are reduced to, and enlarged from again."""

QUALITY = (15, 80)
"""Of JPEG."""

LEAST_WINDOW = 0.35
"""Width of the narrowest window of grey values, of all of them."""

NOISE = 20.0
"""Largest standard deviation of the noise, of 255."""

_WAYS = (Image.Resampling.NEAREST, Image.Resampling.BILINEAR, Image.Resampling.BICUBIC, Image.Resampling.LANCZOS)
_LETTERS = np.array(list(string.ascii_uppercase + string.digits + " :./-"))


def degraded(images: NDArray[np.uint8], random: np.random.Generator) -> NDArray[np.uint8]:
    """A copy of ``(n, side, side)`` uint8 images, each degraded at random."""
    return np.stack([_degraded(image, random) for image in images])


def _degraded(image: NDArray[np.uint8], random: np.random.Generator) -> NDArray[np.uint8]:
    happens = random.random(7)
    if happens[0] < WINDOWED:
        image = _windowed(image, random)
    if happens[1] < INVERTED:
        image = 255 - image
    if happens[2] < NOISY:
        noise = random.standard_normal(image.shape, np.float32) * random.uniform(2, NOISE)
        image = np.clip(image + noise, 0, 255).astype(np.uint8)
    if happens[3] < SMALLER:
        image = _smaller(image, random)
    if happens[4] < WRITTEN:
        image = _written(image, random)
    if happens[5] < COMPRESSED:
        image = _compressed(image, random)
    if happens[6] < BORDERED:
        image = _bordered(image, random)
    return image


def _windowed(image: NDArray[np.uint8], random: np.random.Generator) -> NDArray[np.uint8]:
    """Only a part of the grey values, stretched over all, as another window would show."""
    width = 255 * random.uniform(LEAST_WINDOW, 1)
    start = random.uniform(0, 255 - width)
    values = np.clip((np.arange(256) - start) * (255 / width), 0, 255).astype(np.uint8)
    return np.asarray(values[image], np.uint8)


def _smaller(image: NDArray[np.uint8], random: np.random.Generator) -> NDArray[np.uint8]:
    """Reduced and enlarged again: as sharp as a smaller picture is."""
    side = len(image)
    small = int(np.exp(random.uniform(np.log(min(LEAST_SIDE, side)), np.log(side))))
    down, up = (_WAYS[way] for way in random.integers(0, len(_WAYS), 2))
    reduced = Image.fromarray(image).resize((small, small), down).resize((side, side), up)
    return np.asarray(reduced, np.uint8)


def _compressed(image: NDArray[np.uint8], random: np.random.Generator) -> NDArray[np.uint8]:
    packed = io.BytesIO()
    Image.fromarray(image).save(packed, "JPEG", quality=int(random.integers(*QUALITY)))
    return np.asarray(Image.open(packed), np.uint8)


def _bordered(image: NDArray[np.uint8], random: np.random.Generator) -> NDArray[np.uint8]:
    """Reduced in one direction or both, within a border of one grey value, mostly black."""
    side = len(image)
    height, width = (int(side * random.uniform(0.6, 1)) for _ in range(2))
    if random.random() < 0.5:
        height = side
    top, left = random.integers(0, side - height + 1), random.integers(0, side - width + 1)
    framed = np.full_like(image, 0 if random.random() < 0.8 else random.integers(0, 256))
    inner = Image.fromarray(image).resize((width, height), Image.Resampling.BILINEAR)
    framed[top : top + height, left : left + width] = np.asarray(inner)
    return framed


def _written(image: NDArray[np.uint8], random: np.random.Generator) -> NDArray[np.uint8]:
    """Lines of text near a corner, at times in a box, as scanners and hospitals burn them in."""
    side, written = len(image), Image.fromarray(image)
    draw = ImageDraw.Draw(written)
    font = ImageFont.load_default(size=int(random.integers(7, 16)))
    x, y = (int(random.choice([0.02, 0.6]) * side) for _ in range(2))
    lines = "\n".join("".join(random.choice(_LETTERS, random.integers(3, 14))) for _ in range(random.integers(1, 5)))
    if random.random() < 0.3:
        draw.rectangle(draw.multiline_textbbox((x, y), lines, font), fill=int(random.choice([0, 255])))
    draw.multiline_text((x, y), lines, fill=int(random.integers(120, 256)), font=font)
    return np.asarray(written, np.uint8)
