"""From stored pixel values to the grey image that a viewer shows with default settings.

The rule, once, in the order of DICOM PS3.4 N.2 (softcopy presentation: modality, VOI and presentation LUT):

1. Stored values become real-world values by the Modality LUT Sequence or by Rescale Slope and Intercept
   (PS3.3 C.11.1); in enhanced multi-frame objects by the frame's own Pixel Value Transformation Sequence
   (PS3.3 C.7.6.16.2.9), which stands before the one shared by all frames.
2. Real-world values become display values by the first VOI LUT; else by the first window (PS3.3 C.11.2), LINEAR,
   LINEAR_EXACT or SIGMOID, the frame's own Frame VOI LUT Sequence before the shared one; else by the range from the
   least to the greatest value, the Pixel Padding Value or Range left out (PS3.3 C.7.5.1.1.2).
3. MONOCHROME1 is inverted (PS3.3 C.7.6.3.1.2), and so is the Presentation LUT Shape INVERSE. Padded pixels are black.
   Where compression is lossy, values as near to the padding value as it may have changed them are padding, too.

Colour (RGB, YBR and PALETTE COLOR, PS3.3 C.7.6.3.1.2) has no modality or VOI step: in grey it is luma after ITU-R 601,
as in the paper's "colour to grey" (section 4.1). Overlays are not drawn.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydicom.dataset import Dataset
from pydicom.pixels.processing import apply_color_lut

from model.images.elements import number, text
from model.images.frames import GreyImage, Shown
from model.images.lookup import LookupTable, read_table

Values = NDArray[Any]


def show(values: Values, ds: Dataset, frame: int, tolerance: int = 0) -> Shown:
    """Frame ``frame`` (0-based) of ``ds`` as displayed.

    ``values`` are the decoded stored values, ``(rows, columns)`` or ``(rows, columns, 3)``; YBR is already RGB. By up
    to ``tolerance`` their compression may have changed them.
    """
    photometric = text(ds, "PhotometricInterpretation") or "MONOCHROME2"
    if photometric == "PALETTE COLOR":
        return _in_colour(_from_palette(values, ds), 8)
    if values.ndim == 3:
        return _in_colour(values, int(number(ds, "BitsStored") or 8 * values.dtype.itemsize))
    return Shown(_in_grey(values, ds, frame, tolerance))


def _in_grey(values: Values, ds: Dataset, frame: int, tolerance: int) -> GreyImage:
    attributes = _frame_attributes(ds, frame)
    padding = _padding_mask(values, ds, tolerance)
    display = _voi(_to_real_world(values, attributes), attributes, padding)
    if _is_inverted(ds):
        np.subtract(1.0, display, out=display)
    if padding is not None:
        display[padding] = 0.0
    display *= np.float32(255.0)
    display += np.float32(0.5)
    return display.astype(np.uint8)


def scale_to_range(values: Values, valid: NDArray[np.bool_] | None = None) -> NDArray[np.float32]:
    """Map ``values`` linearly from their least and greatest finite value to 0…1, of the same shape.

    Values outside ``valid``, and those that are not finite, do not count for the range; constant input gives zeros.
    """
    counted = values if valid is None else values[valid]
    if values.dtype.kind == "f":
        counted = counted[np.isfinite(counted)]
    low, high = (float(counted.min()), float(counted.max())) if counted.size else (0.0, 0.0)
    if high <= low:
        return np.zeros(values.shape, np.float32)
    scaled = _to_float(values)  # a copy, and from here in place: large frames are bound by memory
    scaled -= low
    scaled *= 1.0 / (high - low)
    if values.dtype.kind == "f":
        np.nan_to_num(scaled, copy=False, nan=0.0)
    return np.clip(scaled, 0.0, 1.0, out=scaled).astype(np.float32, copy=False)


def show_picture(values: Values, *, white_is_zero: bool = False) -> Shown:
    """Display samples of a picture that carries no window, ``(rows, columns)`` or ``(rows, columns, channels)``.

    8-bit ones are taken as they are, and in grey as their luma; deeper ones are scaled from their least to their
    greatest value.
    """
    if values.ndim == 3:
        values = values[..., :3] if values.shape[-1] >= 3 else values[..., 0]
    if values.dtype == np.uint8:
        shown = _in_colour(values, 8) if values.ndim == 3 else Shown(values)
        return Shown(np.asarray(255 - shown.grey, np.uint8), shown.colour) if white_is_zero else shown
    colour = None
    if values.ndim == 3:
        colour = np.rint(scale_to_range(values) * 255.0).astype(np.uint8)
        values = values.astype(np.float64) @ np.array([0.299, 0.587, 0.114])  # luma after ITU-R 601
    display = scale_to_range(values)
    return Shown(np.rint((1.0 - display if white_is_zero else display) * 255.0).astype(np.uint8), colour)


def _to_real_world(values: Values, attributes: Dataset) -> Values:
    """The modality step; 16-bit values stay exact in float32, which is half the memory of float64.

    A table of X-ray angiography and fluoroscopy makes the values linear to the beam, for measuring and not for the
    display (PS3.3 C.8.7.1.1.2). A slope of 0 is taken for 1, as other viewers do.
    """
    if table := _modality_table(attributes):
        return table.apply(values)
    slope, intercept = number(attributes, "RescaleSlope"), number(attributes, "RescaleIntercept")
    slope, intercept = slope or 1.0, intercept or 0.0
    if (slope, intercept) == (1.0, 0.0):
        return values
    real = values.astype(np.float64)
    real *= slope
    real += intercept
    return real.astype(np.float32) if values.dtype.itemsize <= 2 else real


def _modality_table(ds: Dataset) -> LookupTable | None:
    items = ds.get("ModalityLUTSequence")
    if not items or text(ds, "SOPClassUID") in _XRAY or text(ds, "Modality") in {"XA", "RF"}:
        return None
    return read_table(items[0], "LUTDescriptor", "LUTData")


def _voi_table(ds: Dataset) -> LookupTable | None:
    items = ds.get("VOILUTSequence")
    return read_table(items[0], "LUTDescriptor", "LUTData") if items else None


def _to_float(values: Values) -> NDArray[Any]:
    """A copy in float32, or in float64 where 24 bits of mantissa would blur the values."""
    return values.astype(np.float32 if values.dtype.itemsize <= 2 or values.dtype == np.float32 else np.float64)


def _from_palette(values: Values, ds: Dataset) -> Values:
    """Colours of a palette (PS3.3 C.7.6.3.1.6) as RGB, uint8."""
    tables = [
        read_table(ds, f"{name}PaletteColorLookupTableDescriptor", f"{name}PaletteColorLookupTableData")
        for name in ("Red", "Green", "Blue")
    ]
    whole = [table for table in tables if table is not None]
    if len(whole) == 3:
        colour = np.stack([table.apply(values) for table in whole], axis=-1)
    else:  # segmented tables
        colour = apply_color_lut(values, ds)
    # Entries of 8 bits in 16 are common, whatever their descriptor says.
    return colour.astype(np.uint8) if colour.max(initial=0) < 256 else (colour >> 8).astype(np.uint8)


def _in_colour(rgb: Values, bits: int) -> Shown:
    """RGB with so many bits stored, of which the highest eight are what an 8-bit display shows, and its luma."""
    colour = rgb[..., :3]
    if colour.dtype != np.uint8:
        colour = (colour >> max(0, bits - 8)).clip(0, 255).astype(np.uint8)
    return Shown(np.asarray(Image.fromarray(colour, "RGB").convert("L")), colour)


_XRAY = frozenset({"1.2.840.10008.5.1.4.1.1.12.1", "1.2.840.10008.5.1.4.1.1.12.2"})
"""X-Ray Angiographic and Radiofluoroscopic Image Storage."""

_PADDINGS = ("", "Float", "DoubleFloat")
"""Pixel Padding Value and its siblings for real numbers (PS3.3 C.7.5.1.1.2, C.7.6.24, C.7.6.25)."""

_OF_OBJECT = frozenset({0x0008_0016, 0x0008_0060})
"""SOP Class UID and Modality."""

_SPECIAL = (
    "SharedFunctionalGroupsSequence",
    "PerFrameFunctionalGroupsSequence",
    "ModalityLUTSequence",
    "VOILUTSequence",
)


def _frame_attributes(ds: Dataset, frame: int) -> Dataset:
    """The modality and VOI attributes that hold for one frame, in one dataset; empty ones are absent from it."""
    if not any(name in ds for name in _SPECIAL):
        return ds  # as it is, in most files
    shared = ds.get("SharedFunctionalGroupsSequence") or [Dataset()]
    per_frame = ds.get("PerFrameFunctionalGroupsSequence") or []
    macros = [
        item[0]
        for group in (shared[0], *per_frame[frame : frame + 1])
        for keyword in ("PixelValueTransformationSequence", "FrameVOILUTSequence")
        if (item := group.get(keyword))
    ]
    flat = Dataset()
    flat.file_meta = ds.file_meta  # a table's values are read in the file's byte order
    flat.set_original_encoding(*ds.original_encoding)
    own = [tag for tag in ds.keys() if tag.group == 0x0028 or tag in _OF_OBJECT]  # noqa: SIM118 (no mapping)
    for part, tags in ((ds, own), *((macro, list(macro.keys())) for macro in macros)):
        for tag in tags:
            element = part.get_item(tag)  # as it is written: a value that means nothing is dropped where it is read
            if element is not None and element.value not in (None, b"", ""):
                flat[tag] = element
    return flat


def _voi(values: Values, ds: Dataset, padding: NDArray[np.bool_] | None) -> NDArray[np.float32]:
    """Display values 0…1, float32, by VOI LUT, window or range, in this order."""
    if table := _voi_table(ds):
        return np.asarray(table.apply(values) / np.float32(2**table.bits - 1), dtype=np.float32)
    if (window := _window(ds)) is None:
        return scale_to_range(values, None if padding is None else ~padding)
    centre, width, function = window
    numbers = _to_float(values)
    if function == "SIGMOID":  # PS3.3 C.11.2.1.3.1
        return np.asarray(1.0 / (1.0 + np.exp((-4.0 / width) * (numbers - centre))), dtype=np.float32)
    if function == "LINEAR":  # PS3.3 C.11.2.1.2.1; a width of 1 is a threshold
        centre, width = centre - 0.5, max(width - 1.0, 1e-9)
    numbers -= centre
    numbers *= 1.0 / width
    numbers += 0.5
    return np.clip(numbers, 0.0, 1.0, out=numbers).astype(np.float32, copy=False)


def _window(ds: Dataset) -> tuple[float, float, str] | None:
    """Centre, width and function of the first window, or ``None`` if there is none that the standard allows."""
    centre, width = number(ds, "WindowCenter"), number(ds, "WindowWidth")
    function = text(ds, "VOILUTFunction") or "LINEAR"
    if centre is None or width is None or width < (1 if function == "LINEAR" else 1e-9):
        return None
    return centre, width, function


def describe_display(values: Values, ds: Dataset, frame: int, tolerance: int = 0) -> str:
    """In words, by which step of the rule :func:`show` makes a frame's stored values visible."""
    if values.ndim == 3 or text(ds, "PhotometricInterpretation") == "PALETTE COLOR":
        return "colour as luma (ITU-R 601)"
    attributes = _frame_attributes(ds, frame)
    if _voi_table(attributes):
        return "VOI LUT"
    if window := _window(attributes):
        return "window centre {:g}, width {:g}, {}".format(*window)
    real = _to_real_world(values, attributes)
    padding = _padding_mask(values, ds, tolerance)
    counted = real if padding is None else real[~padding]
    return f"no window: range {counted.min():g} to {counted.max():g}" if counted.size else "all padding"


def _is_inverted(ds: Dataset) -> bool:
    """Whether the least value is white.

    MONOCHROME2 with the Presentation LUT Shape INVERSE contradicts itself (PS3.3 C.8.11.3.1.2 has it for MONOCHROME1
    only). The shape is the last step of the grayscale pipeline, and says that its result must be inverted to be
    P-Values (PS3.4 N.2); the photometric interpretation says no more than what is meant to be dark. So the shape holds.
    """
    return text(ds, "PhotometricInterpretation") == "MONOCHROME1" or text(ds, "PresentationLUTShape") == "INVERSE"


def _padding_mask(values: Values, ds: Dataset, tolerance: int) -> NDArray[np.bool_] | None:
    found = next((kind for kind in _PADDINGS if number(ds, f"{kind}PixelPaddingValue") is not None), None)
    if found is None:
        return None
    padding = number(ds, f"{found}PixelPaddingValue") or 0.0
    limit = number(ds, f"{found}PixelPaddingRangeLimit")
    low, high = sorted(_with_sign(one, values) for one in (padding, padding if limit is None else limit))
    mask = (values >= low - tolerance) & (values <= high + tolerance)
    return mask if mask.any() else None


def _with_sign(value: float, values: Values) -> float:
    """A padding value as stored values have it: with the sign of another element it is off by all bits."""
    if values.dtype.kind not in "iu":
        return float(values.dtype.type(value))  # as near as these values come to it
    whole = int(value)
    limits = np.iinfo(values.dtype)
    if limits.min <= whole <= limits.max:
        return whole
    span: int = 1 << int(limits.bits)
    return whole - span if whole > limits.max else whole + span
