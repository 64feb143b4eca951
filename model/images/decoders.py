"""Which library decodes which transfer syntax: the fastest first, the others where it refuses.

``make bench`` prints the speeds by which the order was chosen. imagecodecs has no plug-in for pydicom, so it has one
here, for grey frames; colour is left to libraries whose plug-ins know DICOM's colour models.
"""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import version
from types import ModuleType
from typing import Any, Final

from pydicom.pixels.decoders.base import DecodeRunner, get_decoder
from pydicom.pixels.utils import _get_jpg_parameters
from pydicom.uid import (
    HTJ2K,
    JPEG2000,
    UID,
    HTJ2KLossless,
    HTJ2KLosslessRPCL,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    JPEGLSNearLossless,
    RLELossless,
)

from model.images.code_streams import END_MARKER, has_end
from model.images.pixel_module import JPEG_XL_SYNTAXES
from model.images.stored_frames import StoredFrames

_JPEG = (JPEGBaseline8Bit, JPEGExtended12Bit, JPEGLossless, JPEGLosslessSV1)
_JPEG_LS = (JPEGLSLossless, JPEGLSNearLossless)
_HTJ2K = (HTJ2K, HTJ2KLossless, HTJ2KLosslessRPCL)

ORDER: Final[dict[UID, tuple[str, ...]]] = {
    JPEGBaseline8Bit: ("imagecodecs", "pillow"),
    JPEGExtended12Bit: ("imagecodecs", "pillow"),
    JPEGLossless: ("imagecodecs", "gdcm"),
    JPEGLosslessSV1: ("imagecodecs", "gdcm"),
    JPEGLSLossless: ("pyjpegls", "gdcm"),
    JPEGLSNearLossless: ("pyjpegls", "gdcm"),
    JPEG2000Lossless: ("gdcm", "pylibjpeg", "pillow"),
    JPEG2000: ("pylibjpeg", "gdcm", "pillow"),
    **dict.fromkeys(_HTJ2K, ("imagecodecs", "pylibjpeg")),
    RLELossless: ("pylibjpeg", "pydicom"),
}
"""Plug-ins by transfer syntax, in the order in which they are tried."""

_MODULES: Final = {
    "imagecodecs": (__name__, "decode_grey"),
    "gdcm": (__name__, "decode_by_gdcm"),
    "pillow": (__name__, "decode_by_pillow"),
    "pylibjpeg": (__name__, "decode_by_pylibjpeg"),
    "pyjpegls": (__name__, "decode_by_pyjpegls"),
    "pydicom": ("pydicom.pixels.decoders.rle", "_decode_frame"),
}


def is_available(_uid: str) -> bool:
    """Whether the plug-in can be used, as pydicom asks."""
    return True


def decode_grey(src: bytes, runner: DecodeRunner) -> bytearray:
    """Decode a grey frame by imagecodecs; a plug-in of pydicom.

    Raises:
        ValueError: the frame is in colour, or has another size than its header says.
    """
    import imagecodecs

    if runner.samples_per_pixel != 1:
        raise ValueError("imagecodecs is used for grey frames only")
    _refuse_other_size(src, runner)
    if runner.transfer_syntax in (*_JPEG, *_HTJ2K) and not has_end(src):  # the decoder would fill up what is missing
        raise ValueError("the code stream ends before its end marker")
    decode = imagecodecs.htj2k_decode if runner.transfer_syntax in _HTJ2K else imagecodecs.jpeg8_decode
    pixels: Any = decode(src)
    if pixels.shape != (runner.rows, runner.columns):
        raise ValueError(f"the frame is {pixels.shape}, its header says {(runner.rows, runner.columns)}")
    runner.set_option("bits_allocated", pixels.dtype.itemsize * 8)
    return bytearray(pixels)


def decode_by_gdcm(src: bytes, runner: DecodeRunner) -> bytearray:
    """The plug-in of GDCM.

    Raises:
        ValueError: a grey JPEG frame, which imagecodecs has refused; damaged ones abort GDCM's process.
    """
    from pydicom.pixels.decoders import gdcm

    if runner.transfer_syntax in _JPEG and runner.samples_per_pixel == 1:
        raise ValueError("GDCM is used for JPEG in colour only")
    return _guarded(gdcm, _ended(src, runner), runner)


def decode_by_pillow(src: bytes, runner: DecodeRunner) -> bytearray:
    """The plug-in of Pillow."""
    from pydicom.pixels.decoders import pillow

    return _guarded(pillow, src, runner)


def decode_by_pylibjpeg(src: bytes, runner: DecodeRunner) -> bytearray:
    """The plug-in of pylibjpeg."""
    from pydicom.pixels.decoders import pylibjpeg

    return _guarded(pylibjpeg, src, runner)


def decode_by_pyjpegls(src: bytes, runner: DecodeRunner) -> bytearray:
    """The plug-in of pyjpegls."""
    from pydicom.pixels.decoders import pyjpegls

    return _guarded(pyjpegls, _ended(src, runner), runner)


def _ended(src: bytes, runner: DecodeRunner) -> bytes:
    """A JPEG-LS stream with the end marker that it lacks: CharLS looks for 11 s for the end of one that was cut off."""
    return src if runner.transfer_syntax not in _JPEG_LS or has_end(src) else src + END_MARKER


def _guarded(plugin: ModuleType, src: bytes, runner: DecodeRunner) -> bytearray:
    """Decode by one of pydicom's own plug-ins, so that its failure is an ordinary error and the next one is asked.

    The result can be corrected in place by pydicom, which fails on the immutable bytes of some plug-ins.
    """
    _refuse_other_size(src, runner)
    try:
        return bytearray(plugin._decode_frame(src, runner))  # noqa: SLF001 (under this name pydicom registers it)
    except BaseException as error:
        # A panic of pylibjpeg's RLE decoder, in Rust; pyo3 gives its type no module to import it from.
        if type(error).__name__ == "PanicException":
            raise RuntimeError(f"the decoder panicked: {error}") from error
        raise


def _refuse_other_size(src: bytes, runner: DecodeRunner) -> None:
    """Decoders allocate what the code stream asks for: one damaged byte of its header may ask for all memory."""
    size: tuple[object, object, object]
    if runner.transfer_syntax in (*_HTJ2K, JPEG2000, JPEG2000Lossless):
        from openjpeg.utils import get_parameters

        found = get_parameters(src)
        size = found["rows"], found["columns"], found["samples_per_pixel"]
    elif runner.transfer_syntax != RLELossless:
        found = _get_jpg_parameters(src)
        size = found.get("height"), found.get("width"), found.get("components")
    else:
        return
    if None in size:
        raise ValueError("the code stream has no frame header")
    if size != (runner.rows, runner.columns, runner.samples_per_pixel):
        raise ValueError("the code stream says {} × {} pixels of {} samples, the header says otherwise".format(*size))


def decoder_of(frames: StoredFrames, syntax: UID, index: int) -> str:
    """Name and version of the library that decodes a frame, 0-based: the first of :data:`ORDER` that does."""
    if syntax in JPEG_XL_SYNTAXES:
        return library("imagecodecs", syntax)
    if syntax not in ORDER:
        return "none needed"
    for name in ORDER[syntax]:
        try:
            frames.decode(index, name)
        except Exception:  # noqa: S112 (refused: the next one is asked, as pydicom does)
            continue
        return library(name, syntax)
    return "none"


def package(name: str, uid: UID) -> str:
    """The package on PyPI that holds a plug-in's decoder for a transfer syntax."""
    if name == "pylibjpeg":
        return "pylibjpeg-rle" if uid == RLELossless else "pylibjpeg-openjpeg"
    return {"gdcm": "python-gdcm"}.get(name, name)


def library(name: str, uid: UID) -> str:
    """That package with its version, once it could be imported.

    Raises:
        ImportError: it is not installed, or broken.
    """
    module = {"pillow": "PIL", "pyjpegls": "jpeg_ls", "pylibjpeg-rle": "rle", "pylibjpeg-openjpeg": "openjpeg"}
    import_module(module.get(package(name, uid), name))
    return f"{package(name, uid)} {version(package(name, uid))}"


def order_decoders() -> None:
    """Have pydicom try the plug-ins in the order of :data:`ORDER`, in this process."""
    for uid, names in ORDER.items():
        decoder = get_decoder(uid)
        for name in (*decoder.available_plugins, *decoder.missing_dependencies):
            decoder.remove_plugin(name.partition(" ")[0])
        decoder.add_plugins([(name, _MODULES[name]) for name in names])
