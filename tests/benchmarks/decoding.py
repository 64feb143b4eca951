"""Decoding: one grey 16-bit frame of 1024 × 1024 in every transfer syntax, over the fastest library on its own."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import openjpeg.utils
from jpeg_ls import decode_pixel_data as charls_decode
from numpy.typing import NDArray
from PIL import Image
from pydicom.encaps import encapsulate
from pydicom.uid import (
    UID,
    HTJ2KLossless,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLosslessSV1,
    JPEGLSLossless,
    JPEGLSNearLossless,
    RLELossless,
)
from rich.console import Console
from rich.table import Table
from rle.utils import decode_frame as rle_decode  # type: ignore[attr-defined]
from rle.utils import encode_pixel_data

from model.images.dicom import read_object
from model.images.sources import Source
from model.images.stored_frames import StoredFrames
from tests.benchmarks.figures import Figure
from tests.support import phantoms

SIDE = 1024
SECONDS = 1.0
"""Time for which each decoder runs."""

GOAL = 0.8

Frame = NDArray[np.uint16]
Direct = Callable[[bytes], Any]


def run() -> Iterator[Figure]:
    """One figure a transfer syntax: frames a second of the reader, of one core, over the fastest direct call."""
    picture = phantoms.draw("chest", 1, SIDE)
    values = np.rint(picture * 4095).astype(np.uint16)
    for syntax, code, direct in _codes(values):
        source = _source(picture, syntax, code)
        found = read_object(source)
        assert found.pixels is not None
        frames = StoredFrames(found.ds, found.pixels, 1)
        ours = _rate(lambda frames=frames: frames.decode(0))  # type: ignore[misc] # bound now
        rates = {name: _rate(lambda decode=decode, code=code: decode(code)) for name, decode in direct.items()}  # type: ignore[misc]
        best = max(rates, key=lambda name: rates[name])
        others = ", ".join(f"{name} {rate:.0f}/s" for name, rate in rates.items())
        yield Figure(f"decode {syntax.name[:36]}", f"{ours:.0f} frames/s", others, ours / rates[best], f">= {GOAL}")


def _codes(values: Frame) -> Iterator[tuple[UID, Any, dict[str, Direct]]]:
    """Transfer syntax, code stream, and the libraries that decode it when they are called directly."""
    ic = imagecodecs
    eight = ic.jpeg8_encode((values >> 4).astype(np.uint8), level=90)
    yield JPEGBaseline8Bit, eight, {"imagecodecs": ic.jpeg8_decode, "pillow": _pillow}
    yield JPEGExtended12Bit, ic.jpeg8_encode(values, level=90, bitspersample=12), {"imagecodecs": ic.jpeg8_decode}
    lossless = ic.jpeg8_encode(values, lossless=True, predictor=1, bitspersample=16)
    yield JPEGLosslessSV1, lossless, {"imagecodecs": ic.jpeg8_decode, "imagecodecs ljpeg": ic.ljpeg_decode}
    charls: dict[str, Direct] = {"pyjpegls": charls_decode, "imagecodecs": ic.jpegls_decode}
    yield JPEGLSLossless, ic.jpegls_encode(values), charls
    yield JPEGLSNearLossless, ic.jpegls_encode(values, level=2), charls
    jpeg2000 = ic.jpeg2k_encode(values, codecformat="j2k", reversible=True, level=0)
    yield JPEG2000Lossless, jpeg2000, {"openjpeg": openjpeg.utils.decode_pixel_data, "imagecodecs": ic.jpeg2k_decode}
    high: dict[str, Direct] = {"imagecodecs": ic.htj2k_decode, "openjpeg": openjpeg.utils.decode_pixel_data}
    yield HTJ2KLossless, ic.htj2k_encode(values), high
    rle = encode_pixel_data(
        values.tobytes(),
        byteorder="<",
        rows=SIDE,
        columns=SIDE,
        samples_per_pixel=1,
        bits_allocated=16,
        number_of_frames=1,
    )
    yield RLELossless, rle, {"pylibjpeg-rle": lambda code: rle_decode(code, values.size, 16, "<")}


def _pillow(code: bytes) -> Any:
    return np.asarray(Image.open(BytesIO(code)))


def _source(picture: phantoms.Picture, syntax: UID, code: bytes) -> Source:
    ds = phantoms.dicom([picture], "chest", 1)
    bits = 8 if syntax == JPEGBaseline8Bit else 16
    ds.BitsAllocated, ds.BitsStored, ds.HighBit = bits, min(bits, 12), min(bits, 12) - 1
    ds.file_meta.TransferSyntaxUID, ds.PixelData = syntax, encapsulate([bytes(code)])
    content = BytesIO()
    ds.save_as(content, enforce_file_format=True)
    return Source("", content.getvalue()[:132], content.getvalue(), Path())


def _rate(call: Callable[[], object]) -> float:
    """Calls a second, the best of three thirds."""
    call()
    best = 0.0
    for _ in range(3):
        started, count = time.perf_counter(), 0
        while time.perf_counter() - started < SECONDS / 3:
            call()
            count += 1
        best = max(best, count / (time.perf_counter() - started))
    return best


def main() -> None:
    """Print the figures."""
    table = Table("figure", "value", "direct calls", "ratio to the fastest", "goal", box=None, pad_edge=False)
    for figure in run():
        table.add_row(*figure.cells())
    Console(highlight=False, width=150).print(table)


if __name__ == "__main__":
    main()
