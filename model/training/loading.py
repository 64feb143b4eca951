"""A labelled repository's pixels, decoded once and kept in a memory-mapped file."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import DataLoader, Dataset

from model.child_processes import leave_interruptions_to_parent, starting_children
from model.errors import ImageError, RepositoryError
from model.images.frames import Frame
from model.images.reading import read_frames
from model.network.preprocessing import RESIZED, resize
from model.training.repository import LabelledFile, Split


@dataclass(frozen=True, slots=True)
class LabelledFrames:
    """All frames of one part of a repository.

    Attributes:
        images: ``(n, 256, 256)`` uint8, or as a model's preparation makes them, memory-mapped: on disk, not in memory.
        labels: ``(n,)`` int64, positions in the class names.
        files: ``(n,)`` int64, positions of the files that the frames are of, in the list that was loaded.
        numbers: ``(n,)`` int64, 1-based frames of those files.
    """

    images: NDArray[np.uint8]
    labels: NDArray[np.int64]
    files: NDArray[np.int64]
    numbers: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.labels)


Frames = list[NDArray[np.uint8]] | ImageError

Prepare = Callable[[Frame], NDArray[np.uint8]]
"""Makes of every frame an array of one shape."""


def resized(frame: Frame) -> NDArray[np.uint8]:
    """A frame as training takes it, ``(256, 256)`` uint8: views are cut out of it."""
    return resize(frame.pixels)


class _Files(Dataset[Frames]):
    """Files as lists of resized frames; a file that cannot be read is its error, so that nothing shifts."""

    def __init__(self, paths: Sequence[Path], prepare: Prepare) -> None:
        self.paths, self._prepare = paths, prepare

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, number: int) -> Frames:
        try:
            return [self._prepare(frame) for frame in read_frames(self.paths[number])]
        except ImageError as error:
            return error


def load_repository(
    files: Sequence[LabelledFile],
    classes: Sequence[str],
    *,
    workers: int = 0,
    prepare: Prepare | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[dict[Split, LabelledFrames], list[ImageError]]:
    """Decode every file into the frames of its split; return them with the errors of the files left out.

    Every frame of a multi-frame file is an image of the file's class. The memory-mapped files are already unlinked:
    they vanish with the last reference.

    Args:
        files: with their splits.
        classes: whose positions are the labels.
        workers: processes that decode.
        prepare: what is kept of a frame; by default it is resized for training.
        progress: told of files done and of their number.

    Raises:
        RepositoryError: there is no room for the decoded frames.
    """
    errors: list[ImageError] = []
    shape: tuple[int, ...] = (RESIZED, RESIZED)
    origins: dict[Split, list[tuple[int, int, int]]] = {"train": [], "validation": [], "test": []}
    loader = DataLoader(
        _Files([file.path for file in files], prepare or resized),
        batch_size=None,
        num_workers=workers,
        collate_fn=_as_it_is,
        worker_init_fn=leave_interruptions_to_parent,
    )
    with ExitStack() as stack:
        stores = {split: stack.enter_context(tempfile.TemporaryFile(prefix="cbmir-frames-")) for split in origins}
        with starting_children():
            decoded = iter(loader)
        for place, (file, frames) in enumerate(zip(files, decoded, strict=True)):
            if isinstance(frames, ImageError):
                errors.append(frames)
            else:
                assert file.split is not None
                for number, frame in enumerate(frames, 1):
                    shape = frame.shape
                    _write(stores[file.split], frame)
                    origins[file.split].append((classes.index(file.label), place, number))
            if progress:
                progress(place + 1, len(files))
        return {split: _map(store, origins[split], shape) for split, store in stores.items()}, errors


def joined(parts: Sequence[LabelledFrames]) -> LabelledFrames:
    """Several parts as one, memory-mapped as they are."""
    with tempfile.TemporaryFile(prefix="cbmir-frames-") as store:
        for part in parts:
            for image in part.images:
                _write(store, image)
        origins = [zip(p.labels.tolist(), p.files.tolist(), p.numbers.tolist(), strict=True) for p in parts]
        return _map(store, list(chain.from_iterable(origins)), parts[0].images.shape[1:])


def require_every_class(training: LabelledFrames, classes: Sequence[str], errors: Sequence[ImageError]) -> None:
    """Refuse a training part that lacks a class.

    Raises:
        RepositoryError: with the first error that may be its cause.
    """
    if missing := set(range(len(classes))) - set(training.labels.tolist()):
        cause = f"; the first error: {errors[0]}" if errors else ""
        raise RepositoryError(f"no training image of class {classes[min(missing)]!r} could be read{cause}")


def _write(store: IO[bytes], frame: NDArray[np.uint8]) -> None:
    try:
        store.write(frame.tobytes())
    except OSError as error:
        folder = tempfile.gettempdir()
        raise RepositoryError(f"decoded images cannot be kept in {folder}: {error.strerror}: set TMPDIR") from error


def _map(store: IO[bytes], origins: list[tuple[int, int, int]], frame: tuple[int, ...]) -> LabelledFrames:
    """Map a file of frames; the mapping outlives the file."""
    store.flush()
    shape = (len(origins), *frame)
    images = np.memmap(store, np.uint8, "r", shape=shape) if origins else np.empty(shape, np.uint8)
    labels, files, numbers = np.array(origins, dtype=np.int64).reshape(-1, 3).T
    return LabelledFrames(images, labels, files, numbers)


def _as_it_is(item: Frames) -> Frames:
    return item
