"""Pictures that come from outside, read in processes apart: one that ends its decoder costs its own question alone."""

from __future__ import annotations

import io
import os
import queue
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from types import TracebackType
from typing import Final, ParamSpec, Protocol, Self, TypeVar

from PIL import Image

from model.child_processes import leave_interruptions_to_parent
from model.errors import ImageError, Reason
from model.images.frames import Frame
from model.images.reading import ReadOptions, read_frames
from workers.guarded import GuardedProcess, ProcessLostError

FILE_SECONDS: Final = 30.0
"""For which one picture may be decoded."""

MOST_PROCESSES: Final = 4
"""Of a large machine: each takes 80 MB, and embedding is what takes time."""

_MEMORY = Path("/dev/shm")  # noqa: S108 (files of this program alone, in folders of their own)

Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")

Crop = tuple[float, float, float, float]
"""Left, top, width and height of a part of a picture, from 0 to 1."""


class Readers:
    """Processes that decode; close them, or use them as a context manager.

    Args:
        processes: how many pictures are decoded at once; by default as many as there are cores, at most
            :data:`MOST_PROCESSES`.
    """

    def __init__(self, processes: int | None = None) -> None:
        self._closed = False
        self._all = [GuardedProcess() for _ in range(processes or min(MOST_PROCESSES, len(os.sched_getaffinity(0))))]
        self._idle: queue.SimpleQueue[GuardedProcess] = queue.SimpleQueue()
        for one in self._all:
            one.start()
            self._idle.put(one)
        for one in self._all:  # what a first picture imports, before anybody waits for it
            one.run(FILE_SECONDS, prepare)

    def frame(self, file: str, number: int, options: ReadOptions, crop: Crop | None = None) -> Frame:
        """One frame of a file, or a part of it.

        Raises:
            ImageError: it cannot be read, has no such frame, or ended its decoder.
        """
        return self._read(file, read_frame, file, number, options, crop)

    def picture(self, file: str, number: int, side: int, crop: Crop | None = None) -> bytes:
        """One frame of a file as a JPEG of at most ``side`` pixels a side, in colour where it has colours.

        Raises:
            ImageError: as :meth:`frame`.
        """
        return self._read(file, draw_frame, file, number, side, crop)

    def _read(
        self,
        file: str,
        task: Callable[Parameters, Result | ImageError],
        *arguments: Parameters.args,
        **named: Parameters.kwargs,
    ) -> Result:
        process = self._idle.get()
        try:
            if self._closed:
                raise ImageError(file, Reason.CRASHED, "the server is ending")
            result = process.run(FILE_SECONDS, task, *arguments, **named)
        except ProcessLostError as error:
            raise ImageError(file, Reason.CRASHED, str(error)) from error
        finally:
            self._idle.put(process)
        if isinstance(result, ImageError):
            raise result
        return result

    def close(self) -> None:
        """End the processes, once what they read now is read."""
        self._closed = True
        for _ in self._all:
            self._idle.get().close()
        for one in self._all:  # whoever still waits is told
            self._idle.put(one)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def prepare() -> None:
    """Import in a process apart what reading needs, and leave Ctrl-C to the server."""
    for name in ("model.images.dicom", "model.images.pictures"):
        import_module(name)
    leave_interruptions_to_parent()


def read_frame(file: str, number: int, options: ReadOptions, crop: Crop | None) -> Frame | ImageError:
    """As :meth:`Readers.frame`, in a process apart; its errors are told, not raised."""
    try:
        frame = next(read_frames(file, number, options), None)
        if frame is None:
            frames = next(read_frames(file, 1)).of
            return ImageError(file, Reason.UNREADABLE, f"it has {frames} frames: there is no frame {number}")
        return _part(frame, crop)
    except ImageError as error:
        return error
    except (MemoryError, OSError) as error:
        return ImageError(file, Reason.UNREADABLE, str(error) or type(error).__name__)
    except Exception as error:  # a fault of the reader costs the file that shows it, not the server
        return ImageError(file, Reason.CRASHED, f"the reader failed: {type(error).__name__}")


def draw_frame(file: str, number: int, side: int, crop: Crop | None) -> bytes | ImageError:
    """As :meth:`Readers.picture`, in a process apart; its errors are told, not raised."""
    frame = read_frame(file, number, ReadOptions(), crop)
    return frame if isinstance(frame, ImageError) else as_jpeg(frame, side)


def as_jpeg(frame: Frame, side: int) -> bytes:
    """A frame as displayed, reduced to at most ``side`` pixels a side."""
    picture = Image.fromarray(frame.pixels if frame.colour is None else frame.colour)
    picture.thumbnail((side, side), Image.Resampling.LANCZOS)
    data = io.BytesIO()
    picture.save(data, "JPEG", quality=90)
    return data.getvalue()


def _part(frame: Frame, crop: Crop | None) -> Frame:
    if crop is None:
        return frame
    height, width = frame.pixels.shape
    left, top = int(crop[0] * width), int(crop[1] * height)
    right, bottom = max(left + 1, round((crop[0] + crop[2]) * width)), max(top + 1, round((crop[1] + crop[3]) * height))
    rows, columns = slice(top, bottom), slice(left, right)
    return replace(
        frame,
        pixels=frame.pixels[rows, columns].copy(),
        colour=None if frame.colour is None else frame.colour[rows, columns].copy(),
        identity=f"{frame.identity} {left},{top},{right},{bottom}",
    )


@contextmanager
def as_file(data: bytes) -> Iterator[str]:
    """Bytes as a file that is gone afterwards, in memory where the system has a place for that.

    Raises:
        ImageError: there is no room for it.
    """
    in_memory = os.access(_MEMORY, os.W_OK) and shutil.disk_usage(_MEMORY).free > 2 * len(data)
    with tempfile.TemporaryDirectory(prefix="cbmir-query-", dir=_MEMORY if in_memory else None) as folder:
        file = Path(folder, "picture")
        try:
            file.write_bytes(data)
        except OSError as error:
            raise ImageError(file, Reason.UNREADABLE, f"there is no room for it: {error.strerror or error}") from error
        yield str(file)


class Uploads(Protocol):
    """Keeps pictures for a while."""

    def keep(self, key: str, name: str, data: bytes) -> None:
        """Keep a picture under a key."""

    def get(self, key: str) -> tuple[str, bytes] | None:
        """Name and bytes of a picture; ``None`` if it is forgotten."""


class KeptUploads:
    """Pictures that were brought, in memory alone, so that a page can be asked again with other filters.

    Args:
        most_bytes: of all together; the oldest go first.
        seconds: after which one is forgotten, also where nobody asks any more.
    """

    def __init__(self, most_bytes: int = 2**28, seconds: float = 1800.0) -> None:
        self._kept: dict[str, tuple[float, str, bytes]] = {}
        self._most, self._seconds, self._lock = most_bytes, seconds, threading.Lock()
        self._timer: threading.Timer | None = None

    def keep(self, key: str, name: str, data: bytes) -> None:
        """Keep a picture under a key."""
        with self._lock:
            self._kept[key] = (time.monotonic(), name, data)
            while len(self._kept) > 1 and sum(len(one) for _, _, one in self._kept.values()) > self._most:
                del self._kept[next(iter(self._kept))]
            self._look_again()

    def get(self, key: str) -> tuple[str, bytes] | None:
        """Name and bytes of a picture; ``None`` if it is forgotten."""
        with self._lock:
            found = self._kept.get(key)
        return found[1:] if found and found[0] > time.monotonic() - self._seconds else None

    def _look_again(self) -> None:
        """Forget the oldest when its time is over."""
        if self._timer is None and self._kept:
            since = next(iter(self._kept.values()))[0]
            self._timer = threading.Timer(max(0.0, since + self._seconds - time.monotonic()), self._forget)
            self._timer.daemon = True
            self._timer.start()

    def _forget(self) -> None:
        with self._lock:
            oldest = time.monotonic() - self._seconds
            for key in [key for key, (since, _, _) in self._kept.items() if since <= oldest]:
                del self._kept[key]
            self._timer = None
            self._look_again()
