"""Volumes in one file (NIfTI, NRRD, MetaImage) as slices along their acquisition plane: the extra ``cbmir[volumes]``.

SimpleITK reads them. They carry neither a modality nor a window: what looks like Hounsfield units is shown in a window
of soft tissue, eight bits are shown as they are, and everything else from the 1st to the 99th percentile of the volume.
"""

from __future__ import annotations

import hashlib
import math
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from model.errors import ImageError, Reason
from model.images.display import show_picture
from model.images.frames import Frame, Header
from model.images.geometry import FARTHEST, PLANES, STRAIGHT, View
from model.images.signatures import volume_reader
from model.images.sources import Source, describe_error

MAX_BYTES: Final = 2**30
"""Of values, above which a volume is left out: it is read as a whole, and needs up to four times as much meanwhile."""

SOFT_TISSUE: Final = -160.0, 240.0
"""From black to white, in Hounsfield units: a width of 400 about 40."""

PERCENTILES: Final = 1.0, 99.0

_AIR: Final = -900
"""Hounsfield units that every CT has below: of the air around the body, or of what pads it."""

_ANISOTROPIC: Final = 1.2
"""Ratio of the largest to the next voxel spacing from which its direction is that across the slices."""

_ENDINGS: Final = {"NiftiImageIO": ".nii", "NrrdImageIO": ".nrrd", "MetaImageIO": ".mha"}

MAX_HEADER: Final = 2**16
"""Bytes within which the header of NRRD or MetaImage must end."""


@dataclass(frozen=True, slots=True)
class Volume:
    """A volume, slice by slice.

    Attributes:
        slices: ``(n, height, width)``, or ``(n, height, width, 3)`` in colour, values as stored.
        places: of each slice the place across the slices in millimetres; ``None`` of a single picture.
        view: the plane of the slices.
        stacks: of each slice the number of its point in time.
        shown: from which value to which it is displayed, black to white; ``None`` as it is.
        why: what that is, in words.
    """

    slices: NDArray[Any]
    places: list[float | None]
    view: View | None
    stacks: list[int]
    shown: tuple[float, float] | None
    why: str


def read_volume_frames(source: Source, only: int | None = None) -> Iterator[Frame]:
    """Yield the slices of a volume from the foot, the front or the right; ``only`` is the 1-based number of one.

    Raises:
        ImageError: it cannot be read, is too large, or SimpleITK is not installed.
    """
    volume, digest = read_volume(source), _digest(source)
    headers = _headers(volume, digest)
    count = len(headers)
    for number in range(1, count + 1) if only is None else [only] * (1 <= only <= count):
        pixels = volume.slices[number - 1]
        if volume.shown:
            low, high = volume.shown
            scaled = (pixels.astype(np.float32) - low) * (255 / max(high - low, 1e-12))
            pixels = np.clip(np.nan_to_num(scaled, nan=0.0), 0, 255).astype(np.uint8)
        shown = show_picture(np.ascontiguousarray(pixels))
        yield Frame(shown.grey, number, count, f"file/{digest}/{number}", headers[number - 1], shown.colour)


def read_volume_headers(source: Source) -> list[Header]:
    """The headers of a volume's slices, none of which is displayed.

    Raises:
        ImageError: as :func:`read_volume_frames`.
    """
    return _headers(read_volume(source), _digest(source))


def _headers(volume: Volume, digest: str) -> list[Header]:
    series = f"2.25.{int(digest[:32], 16)}"
    return [
        Header(series_instance_uid=series, view=volume.view, stack=str(stack), slice_mm=place)
        for stack, place in zip(volume.stacks, volume.places, strict=True)
    ]


def read_volume(source: Source) -> Volume:
    """Read a volume as a whole.

    Raises:
        ImageError: as :func:`read_volume_frames`.
    """
    try:
        import SimpleITK
    except ImportError as error:
        raise ImageError(
            source.address, Reason.UNSUPPORTED, "a volume: install the extra cbmir[volumes] to read it"
        ) from error
    kind = volume_reader(source.start)
    assert kind
    itk: Any = SimpleITK
    itk.ProcessObject.SetGlobalWarningDisplay(False)
    if kind != "NiftiImageIO":
        _refuse_detached(source, kind)
    try:
        with _named(source, _ENDINGS[kind]) as path:
            reader = itk.ImageFileReader()
            reader.SetImageIO(kind)
            reader.SetFileName(str(path))
            reader.ReadImageInformation()
            voxels = math.prod(reader.GetSize()) * reader.GetNumberOfComponents()
            size = voxels * _bytes_a_value(itk, reader)
            if size > MAX_BYTES:
                raise ImageError(source.address, Reason.TOO_LARGE, f"{size:,} bytes of values, limit {MAX_BYTES:,}")
            if kind == "NiftiImageIO":
                _refuse_cut_off(source, voxels)
            image = reader.Execute()
        return _sliced(itk, image)
    except ImageError:
        raise
    except MemoryError as error:
        raise ImageError(source.address, Reason.UNREADABLE, "there is too little memory to decode it") from error
    except Exception as error:  # SimpleITK raises RuntimeError with the text of its C++ exceptions
        raise ImageError(source.address, Reason.CORRUPT, _in_short(error, source.address)) from error


def _refuse_detached(source: Source, kind: str) -> None:
    """Values in another file could be those of any file of this machine, and would not be part of the identity."""
    if source.content is not None:
        head = source.content[:MAX_HEADER]
    else:
        with source.path.open("rb") as file:
            head = file.read(MAX_HEADER)
    said = "its values lie in another file: save it as one file"
    if kind == "NrrdImageIO":
        head = re.split(rb"\r?\n\r?\n", head, maxsplit=1)[0]
        if re.search(rb"^\s*data ?file\s*:", head, re.MULTILINE | re.IGNORECASE):
            raise ImageError(source.address, Reason.UNSUPPORTED, said)
    if kind == "MetaImageIO":
        found = re.search(rb"^\s*ElementDataFile\s*[=:]\s*(.*?)\s*$", head, re.MULTILINE | re.IGNORECASE)
        if not found or found[1].lower() != b"local":
            raise ImageError(source.address, Reason.UNSUPPORTED, said)


def _bytes_a_value(itk: Any, reader: Any) -> int:
    """Of a value as it is stored, by the name that SimpleITK has for its type."""
    bits = re.search(r"\d+", itk.GetPixelIDValueAsString(reader.GetPixelID()))
    return int(bits[0]) // 8 if bits else 8


def _refuse_cut_off(source: Source, voxels: int) -> None:
    """The NIfTI library takes what is missing for zeros."""
    order: Literal["little", "big"] = "little" if source.start[1] or source.start[0] else "big"
    bits = int.from_bytes(source.start[72:74] if source.start[344:348] == b"n+1\0" else source.start[14:16], order)
    size = len(source.content) if source.content is not None else source.path.stat().st_size
    if size < voxels * bits // 8:
        raise ImageError(source.address, Reason.CORRUPT, f"{size:,} bytes, which is too few for {voxels:,} values")


@contextmanager
def _named(source: Source, ending: str) -> Iterator[Path]:
    """The file under a name with its kind's ending, by which SimpleITK knows it."""
    with tempfile.TemporaryDirectory(prefix="cbmir-") as folder:
        path = Path(folder) / f"volume{ending}"
        if source.content is None:
            path.symlink_to(source.path.absolute())
        else:
            path.write_bytes(source.content)
        yield path


def _sliced(itk: Any, image: Any) -> Volume:
    """The image cut along its acquisition plane, as a radiologist would see it."""
    if image.GetDimension() == 2 or (image.GetDimension() == 3 and image.GetSize()[2] == 1 and _is_flat(image)):
        values = itk.GetArrayFromImage(image)
        values = values if image.GetDimension() == 3 else values[np.newaxis]
        return Volume(values, [None] * len(values), None, [0] * len(values), *_window(values))
    moments = [image]
    if image.GetDimension() == 4:
        moments = [image[:, :, :, moment] for moment in range(image.GetSize()[3])]
    slices: list[NDArray[Any]] = []
    places: list[float | None] = []
    stacks: list[int] = []
    view: View | None = None
    for moment, one in enumerate(moments):
        cut, along, view = _cut(itk, one)
        slices.append(cut)
        places += along
        stacks += [moment] * len(along)
    values = slices[0] if len(slices) == 1 else np.concatenate(slices)
    return Volume(values, places, view, stacks, *_window(values))


def _is_flat(image: Any) -> bool:
    """Whether a file of one slice says nothing of where that lies: as a picture that became a volume."""
    return bool(np.allclose(np.array(image.GetDirection()), np.eye(3).ravel())) and not any(image.GetOrigin())


def _cut(itk: Any, image: Any) -> tuple[NDArray[Any], list[float | None], View]:
    """Slices across the axis of the largest spacing, or of isotropic voxels the third; where they lie; their plane."""
    spacing = np.array(image.GetSpacing())
    axis = int(spacing.argmax()) if spacing.max() > _ANISOTROPIC * np.sort(spacing)[1] else 2
    across = np.array(image.GetDirection()).reshape(3, 3)[:, axis]
    turned = itk.DICOMOrient(image, "LPS")  # axes to the left, to the back, to the head
    directions = np.array(turned.GetDirection()).reshape(3, 3)
    axis = int(np.abs(directions.T @ across).argmax())
    normal = directions[:, axis]
    values = np.moveaxis(itk.GetArrayFromImage(turned), 2 - axis, 0)
    if axis != 2:
        values = values[:, ::-1]  # the head above
    origin = np.array(turned.GetOrigin())
    step = turned.GetSpacing()[axis]
    places = [_place(float(origin @ normal + step * number)) for number in range(len(values))]
    body_axis = int(np.abs(normal).argmax())
    view: View = PLANES[body_axis] if abs(normal[body_axis]) >= STRAIGHT else "oblique"
    return values, places, view


def _place(along: float) -> float | None:
    """Of a slice in millimetres; ``None`` where the header says nonsense."""
    return round(along, 3) if abs(along) < FARTHEST else None


def _window(values: NDArray[Any]) -> tuple[tuple[float, float] | None, str]:
    """From which value to which a volume is displayed, and what that is."""
    if values.dtype == np.uint8:
        return None, "as it is"
    low, high = float(np.nanmin(values)), float(np.nanmax(values))
    if low <= _AIR and high > SOFT_TISSUE[1]:
        return (
            SOFT_TISSUE,
            f"soft tissue, as its values look like Hounsfield units: {SOFT_TISSUE[0]:g} to {SOFT_TISSUE[1]:g}",
        )
    sample = values.ravel()[:: max(1, values.size // 2**22)]
    first, last = np.nanpercentile(sample[np.isfinite(sample)], PERCENTILES)
    return (float(first), float(last)), f"1st to 99th percentile of the volume: {first:g} to {last:g}"


def _digest(source: Source) -> str:
    digest = hashlib.sha256()
    if source.content is not None:
        digest.update(source.content)
    else:
        with source.path.open("rb") as file:
            while block := file.read(2**22):
                digest.update(block)
    return digest.hexdigest()


def _in_short(error: Exception, address: str) -> str:
    """The last line of what SimpleITK says, without the names of its source files."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    last = re.sub(r"^.*?(?:ERROR: |Error: )", "", lines[-1]) if lines else describe_error(error, address)
    if last.startswith("Reason: "):  # what the operating system said last, which is often success
        return "it holds fewer values than its header says"
    return re.sub(r"/\S*volume\.\w+", "the file", last)
