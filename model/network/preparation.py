"""From a frame of any size to a network's input: a square of fixed size, in grey or in colour."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal, TypeAlias

import numpy as np

from model.images.frames import Frame
from model.network.preprocessing import INPUT, RESIZED

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from PIL.Image import Image

ResizeRule = Literal["stretch", "crop", "pad"]
"""How a picture becomes a square: its aspect ratio is given up; or its shorter side is resized and the rest cut off; or
its longer side is resized and the rest is black."""

Interpolation = Literal["bilinear", "bicubic"]

Channels = Literal[1, 3]


@dataclass(frozen=True, slots=True)
class Preparation:
    """How frames are prepared for a network.

    Attributes:
        size: side in pixels of what enters the network.
        resized: side to which a frame is resized, before ``size`` is cut from its centre.
        rule: how it becomes a square.
        interpolation: of the resizing, antialiased in either case.
        channels: 1 for grey, 3 for colour, where a grey frame stands three times.
        mean: by channel, subtracted from values scaled to 0…1.
        std: by channel, by which the differences are divided.
    """

    size: int = INPUT
    resized: int = RESIZED
    rule: ResizeRule = "stretch"
    interpolation: Interpolation = "bilinear"
    channels: Channels = 1
    mean: tuple[float, ...] = (0.5,)
    std: tuple[float, ...] = (0.25,)

    @property
    def shape(self) -> tuple[int, ...]:
        """Of one prepared frame: ``(size, size)``, or with colours ``(size, size, 3)``."""
        return (self.size, self.size) if self.channels == 1 else (self.size, self.size, 3)

    @property
    def bytes(self) -> int:
        """Size of one prepared frame, in bytes."""
        return self.size * self.size * self.channels

    def __call__(self, frame: Frame) -> NDArray[np.uint8]:
        """Prepare a frame: uint8, of :attr:`shape`, not yet scaled."""
        from PIL import Image  # what only looks a model up needs none of it

        pixels = frame.pixels if self.channels == 1 or frame.colour is None else frame.colour
        square = self._square(Image.fromarray(pixels))
        if self.channels == 3 and square.mode == "L":
            square = Image.merge("RGB", [square] * 3)
        return np.asarray(square)

    def scale(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Scale prepared images ``(n, *shape)`` to the network's ``(n, channels, size, size)`` float32."""
        planes = images[..., None] if self.channels == 1 else images
        scaled = np.empty((len(images), self.channels, self.size, self.size), np.float32)
        grey = np.arange(256, dtype=np.float32) / np.float32(255.0)
        for channel, (mean, std) in enumerate(zip(self.mean, self.std, strict=True)):
            # There are 256 values: to look them up takes a fifth of the time of computing each.
            values = (grey - np.float32(mean)) / np.float32(std)
            scaled[:, channel] = np.take(values, planes[..., channel])
        return scaled

    def _square(self, picture: Image) -> Image:
        from PIL.Image import new

        width, height = picture.size
        if self.rule == "stretch":
            resized = self._resize(picture, self.resized, self.resized)
        elif self.rule == "crop":
            share = self.resized / min(width, height)
            resized = self._resize(picture, round(width * share), round(height * share))
        else:
            share = self.resized / max(width, height)
            inner = self._resize(picture, max(1, round(width * share)), max(1, round(height * share)))
            resized = new(picture.mode, (self.resized, self.resized))
            resized.paste(inner, ((self.resized - inner.width) // 2, (self.resized - inner.height) // 2))
        left, top = (resized.width - self.size) // 2, (resized.height - self.size) // 2
        return resized.crop((left, top, left + self.size, top + self.size))

    def _resize(self, picture: Image, width: int, height: int) -> Image:
        from PIL.Image import Resampling

        if picture.size == (width, height):
            return picture
        how = Resampling.BILINEAR if self.interpolation == "bilinear" else Resampling.BICUBIC
        return picture.resize((width, height), how, reducing_gap=3.0)


@dataclass(frozen=True, slots=True)
class JoinedPreparation:
    """How frames are prepared for several networks at once: the bytes of each, one behind the other.

    Attributes:
        parts: of each network.
    """

    parts: tuple[Preparation, ...]

    @property
    def bytes(self) -> int:
        """Size of one prepared frame, in bytes."""
        return sum(part.bytes for part in self.parts)

    @property
    def shape(self) -> tuple[int, ...]:
        """Of one prepared frame: a row of bytes."""
        return (self.bytes,)

    def __call__(self, frame: Frame) -> NDArray[np.uint8]:
        """Prepare a frame for all of them."""
        return np.concatenate([part(frame).ravel() for part in self.parts])

    def split(self, images: NDArray[np.uint8]) -> list[NDArray[np.uint8]]:
        """Prepared images ``(n, bytes)`` as each network takes them, ``(n, *shape)``."""
        ends = np.cumsum([part.bytes for part in self.parts])
        columns = np.split(images, ends[:-1], axis=1)
        return [rows.reshape(len(rows), *part.shape) for rows, part in zip(columns, self.parts, strict=True)]


AnyPreparation: TypeAlias = Preparation | JoinedPreparation

PAPER: Final = Preparation()
"""Of the network of the paper (section 3.1.2): 256 × 256, of which the middle 224 × 224, in grey."""


def per_channel(values: Sequence[float], channels: Channels) -> tuple[float, ...]:
    """A mean or deviation for each channel: one stands for all.

    Raises:
        ValueError: there are more or fewer.
    """
    if len(values) not in {1, channels}:
        raise ValueError(f"{len(values)} values for {channels} channels")
    return tuple(map(float, values)) * (channels // len(values))
