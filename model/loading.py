"""A labelled repository's pixels, decoded once and kept in a memory-mapped file."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import DataLoader, Dataset

from model.errors import ImageError, RepositoryError
from model.preprocessing import RESIZED, resize
from model.reading import read_frames
from model.repository import LabelledFile, Split


@dataclass(frozen=True, slots=True)
class LabelledFrames:
    """All frames of one part of a repository.

    Attributes:
        images: ``(n, 256, 256)`` uint8, memory-mapped: 64 KB a frame on disk, not in memory.
        labels: ``(n,)`` int64, positions in the sorted class names.
    """

    images: NDArray[np.uint8]
    labels: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.labels)


Frames = list[NDArray[np.uint8]] | ImageError


class _Files(Dataset[Frames]):
    """Files as lists of resized frames; a file that cannot be read is its error, so that nothing shifts."""

    def __init__(self, paths: Sequence[Path]) -> None:
        self.paths = paths

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, number: int) -> Frames:
        try:
            return [resize(frame.pixels) for frame in read_frames(self.paths[number])]
        except ImageError as error:
            return error


def load_repository(
    files: Sequence[LabelledFile],
    classes: Sequence[str],
    *,
    workers: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[dict[Split, LabelledFrames], list[ImageError]]:
    """Decode every file into the frames of its split; return them with the errors of the files left out.

    Every frame of a multi-frame file is an image of the file's class. The memory-mapped files are already unlinked:
    they vanish with the last reference.

    Raises:
        RepositoryError: no file of a class, or of the training part, could be read.
    """
    errors: list[ImageError] = []
    labels: dict[Split, list[int]] = {"train": [], "validation": [], "test": []}
    loader = DataLoader(
        _Files([file.path for file in files]), batch_size=None, num_workers=workers, collate_fn=_as_it_is
    )
    with ExitStack() as stack:
        stores = {split: stack.enter_context(tempfile.TemporaryFile(prefix="cbmir-frames-")) for split in labels}
        for number, (file, frames) in enumerate(zip(files, loader, strict=True), 1):
            if isinstance(frames, ImageError):
                errors.append(frames)
            else:
                assert file.split is not None
                for frame in frames:
                    _write(stores[file.split], frame)
                    labels[file.split].append(classes.index(file.label))
            if progress:
                progress(number, len(files))
        parts = {split: _map(store, labels[split]) for split, store in stores.items()}
    if missing := set(range(len(classes))) - set(labels["train"]):
        cause = f"; the first error: {errors[0]}" if errors else ""
        raise RepositoryError(f"no training image of class {classes[min(missing)]!r} could be read{cause}")
    return parts, errors


def _write(store: IO[bytes], frame: NDArray[np.uint8]) -> None:
    try:
        store.write(frame.tobytes())
    except OSError as error:
        folder = tempfile.gettempdir()
        raise RepositoryError(f"decoded images cannot be kept in {folder}: {error.strerror}: set TMPDIR") from error


def _map(store: IO[bytes], labels: list[int]) -> LabelledFrames:
    """Map a file of frames; the mapping outlives the file."""
    store.flush()
    shape = (len(labels), RESIZED, RESIZED)
    images = np.memmap(store, np.uint8, "r", shape=shape) if labels else np.empty(shape, np.uint8)
    return LabelledFrames(images, np.array(labels, dtype=np.int64))


def _as_it_is(item: Frames) -> Frames:
    return item
