"""From stored pixel values to the grey image that a viewer shows with default settings.

The rule, once, in the order of DICOM PS3.4 N.2 (softcopy presentation: modality, VOI and presentation LUT):

1. Stored values become real-world values by the Modality LUT Sequence or by Rescale Slope and Intercept
   (PS3.3 C.11.1); in enhanced multi-frame objects by the frame's own Pixel Value Transformation Sequence
   (PS3.3 C.7.6.16.2.9), which stands before the one shared by all frames.
2. Real-world values become display values by the first VOI LUT; else by the first window (PS3.3 C.11.2), LINEAR,
   LINEAR_EXACT or SIGMOID, the frame's own Frame VOI LUT Sequence before the shared one; else by the range from the
   least to the greatest value, the Pixel Padding Value or Range left out (PS3.3 C.7.5.1.1.2).
3. MONOCHROME1 is inverted (PS3.3 C.7.6.3.1.2). Padded pixels are black.

Colour (RGB, YBR and PALETTE COLOR, PS3.3 C.7.6.3.1.2) has no modality or VOI step: it becomes luma after ITU-R 601,
as in the paper's "colour to grey" (section 4.1). Overlays are not drawn.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydicom.dataset import Dataset
from pydicom.pixels.processing import apply_color_lut, apply_modality_lut, apply_voi

from model.frames import GreyImage

Values = NDArray[Any]


def to_grey(values: Values, ds: Dataset, frame: int) -> GreyImage:
    """Return frame ``frame`` (0-based) of ``ds`` as displayed, ``(rows, columns)`` uint8.

    ``values`` are the decoded stored values, ``(rows, columns)`` or ``(rows, columns, 3)``; YBR is already RGB.
    """
    photometric = str(ds.get("PhotometricInterpretation", "MONOCHROME2"))
    if photometric == "PALETTE COLOR":
        values = _from_palette(values, ds)
    if values.ndim == 3:
        return _luma(values)
    attributes = _frame_attributes(ds, frame)
    padding = _padding_mask(values, ds)
    display = _voi(_to_real_world(values, attributes), attributes, padding)
    if photometric == "MONOCHROME1":
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


def _to_real_world(values: Values, attributes: Dataset) -> Values:
    """The modality step; 16-bit values stay exact in float32, which is half the memory of pydicom's float64."""
    real = apply_modality_lut(values, attributes)
    return real.astype(np.float32) if real.dtype == np.float64 and values.dtype.itemsize <= 2 else real


def _to_float(values: Values) -> NDArray[Any]:
    """A copy in float32, or in float64 where 24 bits of mantissa would blur the values."""
    return values.astype(np.float32 if values.dtype.itemsize <= 2 or values.dtype == np.float32 else np.float64)


def _from_palette(values: Values, ds: Dataset) -> Values:
    """Colours of a palette (PS3.3 C.7.6.3.1.6) as RGB, uint8."""
    if not ds.original_encoding[1]:  # pydicom takes 16-bit entries for little endian
        swapped = Dataset()
        swapped.file_meta = ds.file_meta
        swapped.update(ds.group_dataset(0x0028))
        entries = int(ds.RedPaletteColorLookupTableDescriptor[0]) or 2**16
        for name in ("Red", "Green", "Blue"):
            table = ds.get(f"{name}PaletteColorLookupTableData")
            if table and len(table) >= 2 * entries:
                del swapped[f"{name}PaletteColorLookupTableData"]  # the element is the file's own: not to be changed
                setattr(swapped, f"{name}PaletteColorLookupTableData", np.frombuffer(table, ">u2").byteswap().tobytes())
        ds = swapped
    colour = apply_color_lut(values, ds)
    # Entries of 8 bits in 16 are common, whatever their descriptor says.
    return colour.astype(np.uint8) if colour.max(initial=0) < 256 else (colour >> 8).astype(np.uint8)


def _luma(rgb: Values) -> GreyImage:
    colour = rgb[..., :3]
    if colour.dtype != np.uint8:
        # 16-bit palettes and colour: the high byte is what an 8-bit display shows.
        colour = (colour >> (8 * (colour.dtype.itemsize - 1))).astype(np.uint8)
    return np.asarray(Image.fromarray(colour, "RGB").convert("L"))


_SPECIAL = (
    "SharedFunctionalGroupsSequence",
    "PerFrameFunctionalGroupsSequence",
    "ModalityLUTSequence",
    "VOILUTSequence",
)


def _frame_attributes(ds: Dataset, frame: int) -> Dataset:
    """The modality and VOI attributes that hold for one frame, in one dataset; empty ones are absent from it."""
    rescale = [ds[name].is_empty for name in ("RescaleSlope", "RescaleIntercept") if name in ds]
    if not any(rescale) and not any(name in ds for name in _SPECIAL):
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
    for part in (ds.group_dataset(0x0028), *macros):
        flat.update({element.tag: element for element in part if not element.is_empty})
    for keyword in ("ModalityLUTSequence", "VOILUTSequence"):
        table = flat.get(keyword)
        if table and not (table[0].get("LUTDescriptor") and table[0].get("LUTData") is not None):
            del flat[keyword]
    return flat


def _voi(values: Values, ds: Dataset, padding: NDArray[np.bool_] | None) -> NDArray[np.float32]:
    """Display values 0…1, float32, by VOI LUT, window or range, in this order."""
    if luts := ds.get("VOILUTSequence"):
        # The table's own index arithmetic needs integers; a rescale may have made them floats.
        table = apply_voi(np.rint(values).astype(np.int64), ds)
        return np.asarray((table / float(2 ** int(luts[0].LUTDescriptor[2]) - 1)).clip(0.0, 1.0), dtype=np.float32)
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
    centre, width = _first(ds.get("WindowCenter")), _first(ds.get("WindowWidth"))
    function = str(ds.get("VOILUTFunction") or "LINEAR").upper()
    if centre is None or width is None or width < (1 if function == "LINEAR" else 1e-9):
        return None
    return centre, width, function


def describe_display(values: Values, ds: Dataset, frame: int) -> str:
    """In words, by which step of the rule :func:`to_grey` makes a frame's stored values visible."""
    if values.ndim == 3 or ds.get("PhotometricInterpretation") == "PALETTE COLOR":
        return "colour as luma (ITU-R 601)"
    attributes = _frame_attributes(ds, frame)
    if attributes.get("VOILUTSequence"):
        return "VOI LUT"
    if window := _window(attributes):
        return "window centre {:g}, width {:g}, {}".format(*window)
    real = _to_real_world(values, attributes)
    padding = _padding_mask(values, ds)
    counted = real if padding is None else real[~padding]
    return f"no window: range {counted.min():g} to {counted.max():g}" if counted.size else "all padding"


def _first(value: Any) -> float | None:
    """The first value of a possibly multi-valued, possibly empty DS element."""
    if value is None or value == "":
        return None
    try:
        return float(value)
    except TypeError:
        return float(value[0]) if len(value) else None


def _padding_mask(values: Values, ds: Dataset) -> NDArray[np.bool_] | None:
    padding = ds.get("PixelPaddingValue")
    if padding is None or padding == "":
        return None
    limit = ds.get("PixelPaddingRangeLimit")
    low, high = sorted((int(padding), int(padding if limit in (None, "") else limit)))
    mask = (values >= low) & (values <= high)
    return mask if mask.any() else None
