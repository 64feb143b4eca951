"""From a grey frame of any size to the network's input (paper section 3.1.2)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, TypeAlias, TypeVar

import numpy as np

from model.images.frames import GreyImage

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

RESIZED: Final = 256
"""Side in pixels to which every frame is resized, its aspect ratio given up, before the crop."""

INPUT: Final = 224
"""Side in pixels of the centre crop that enters the network."""

BATCH: Final = 64
"""Images that the network sees at once where no one says otherwise."""

PREPROCESSING: Final = f"resize {RESIZED} bilinear antialiased, centre crop {INPUT}, (x/255-0.5)/0.25"
"""Recorded in every checkpoint, so that a model is never fed in another way than it was trained."""

T = TypeVar("T", bound=np.generic)

NetworkInput: TypeAlias = "NDArray[np.uint8]"
"""``(224, 224)`` uint8, not yet scaled: a quarter of the bytes of float32 on the way between processes."""


def resize(pixels: GreyImage) -> NDArray[np.uint8]:
    """Resize ``(height, width)`` uint8 to ``(256, 256)`` uint8, antialiased."""
    if pixels.shape == (RESIZED, RESIZED):
        return pixels
    from PIL import Image

    picture = Image.fromarray(pixels)
    return np.asarray(picture.resize((RESIZED, RESIZED), Image.Resampling.BILINEAR, reducing_gap=3.0))


def centre_crop(resized: NDArray[np.uint8]) -> NetworkInput:
    """Cut ``(…, 224, 224)`` from the centre of ``(…, 256, 256)``."""
    margin = (RESIZED - INPUT) // 2
    return resized[..., margin : margin + INPUT, margin : margin + INPUT]


def batches(images: NDArray[T]) -> Iterator[NDArray[T]]:
    """Cut an array along its first axis into parts of :data:`BATCH`, the last one shorter."""
    for start in range(0, len(images), BATCH):
        yield images[start : start + BATCH]
