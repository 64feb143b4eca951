"""What the reader sees in one file: for a person who asks why it looks so, or why it was left out."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from importlib.metadata import version
from io import BytesIO
from pathlib import Path

import PIL
from PIL import Image

from model.errors import SettingError
from model.images.code_streams import JPEG_XL, needs_imagecodecs
from model.images.decoders import decoder_of
from model.images.dicom import read_object
from model.images.display import describe_display
from model.images.elements import dropped_values
from model.images.frames import Frame
from model.images.pictures import reads_by_tifffile
from model.images.reading import is_dicom, is_image, read_frames
from model.images.signatures import volume_reader
from model.images.sop_classes import check_object
from model.images.sources import Source, open_source
from model.images.stored_frames import StoredFrames
from model.images.tiff import is_tiff
from model.images.volumes import read_volume


@dataclass(frozen=True, slots=True)
class Inspection:
    """One frame of a file, as displayed, and how it came about.

    Attributes:
        frame: the frame, with the header fields that an index would keep.
        facts: what the file says of its encoding and what was done with it, by name.
    """

    frame: Frame
    facts: dict[str, str]


def inspect_file(address: str | Path, frame: int = 1) -> Inspection:
    """Read one frame of an image file and say how.

    Raises:
        ImageError: the file would be left out of an index.
        SettingError: it has no such frame.
    """
    found = next(read_frames(address, only=frame), None)
    if found is None:
        raise SettingError(f"{address} has no frame {frame}: it has {next(read_frames(address, only=1)).of}")
    with open_source(address, is_image) as source, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what matters of the decoders' warnings is an error of the reader
        if is_dicom(source.start):
            facts = _dicom_facts(source, frame)
        else:
            facts = _volume_facts(source) if volume_reader(source.start) else _picture_facts(source)
    return Inspection(found, facts)


def _dicom_facts(source: Source, frame: int) -> dict[str, str]:
    found = read_object(source)
    ds = found.ds
    pixels, count = check_object(source.address, ds, found.pixels, sop_class=ds.get("SOPClassUID") or "")
    frames = StoredFrames(ds, pixels, count)
    stored = frames.decode(frame - 1)
    syntax = ds.file_meta.TransferSyntaxUID
    sign = "signed" if ds.get("PixelRepresentation") else "unsigned"
    bits = f"{ds.get('BitsStored')} of {ds.get('BitsAllocated')} bits, {sign}"
    facts = {
        "format": f"DICOM, {ds.SOPClassUID.name if ds.get('SOPClassUID') else 'no SOP class'}",
        "transfer syntax": f"{syntax.name} ({syntax})",
        "pixels": f"{ds.get('PhotometricInterpretation')}, {bits}",
        "displayed by": describe_display(stored.values, ds, frame - 1, stored.tolerance),
        "decoder": decoder_of(frames, syntax, frame - 1),
    }
    if notes := [*found.notes, *dropped_values(ds)]:
        facts["notes"] = "; ".join(notes)
    return facts


def _volume_facts(source: Source) -> dict[str, str]:
    volume = read_volume(source)
    kind = str(volume_reader(source.start)).removesuffix("ImageIO").replace("Nifti", "NIfTI").replace("Nrrd", "NRRD")
    count, height, width = volume.slices.shape[:3]
    return {
        "format": "MetaImage" if kind == "Meta" else kind,
        "pixels": f"{count} slices of {width} × {height}, {volume.slices.dtype}",
        "displayed by": volume.why,
        "decoder": f"SimpleITK {version('SimpleITK')}",
    }


def _picture_facts(source: Source) -> dict[str, str]:
    stream = source.content or source.start
    if is_tiff(source.start) and reads_by_tifffile(source):
        return {"format": "TIFF", "decoder": f"tifffile {version('tifffile')}"}
    if not is_tiff(source.start) and needs_imagecodecs(stream):
        name = "JPEG XL" if stream.startswith(JPEG_XL) else "JPEG-LS, or JPEG that is lossless or of 12 bits"
        return {"format": name, "decoder": f"imagecodecs {version('imagecodecs')}"}
    with Image.open(BytesIO(source.content) if source.content else source.path) as picture:
        return {
            "format": str(picture.format),
            "pixels": f"mode {picture.mode}",
            "decoder": f"pillow {PIL.__version__}",
        }
