"""HEIC pictures (ISO/IEC 23008-12), read by pillow-heif where it is installed: the extra ``cbmir[heic]``."""

from __future__ import annotations

from typing import Final

from model.errors import ImageError, Reason

_BRANDS: Final = frozenset({b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"})

_AVIF: Final = frozenset({b"avif", b"avis"})
"""Of the same container; Pillow decodes it itself."""


def is_heif(start: bytes) -> bool:
    """Whether a file that starts so is HEIC."""
    return start[4:8] == b"ftyp" and start[8:12] in _BRANDS


def is_avif(start: bytes) -> bool:
    """Whether a file that starts so is AVIF."""
    return start[4:8] == b"ftyp" and start[8:12] in _AVIF


def open_heif(address: str) -> str:
    """Have Pillow open such files; return how it calls their format.

    Raises:
        ImageError: pillow-heif is not installed.
    """
    try:
        import pillow_heif
    except ImportError as error:
        raise ImageError(address, Reason.UNSUPPORTED, "HEIC: install the extra cbmir[heic] to read it") from error
    pillow_heif.register_heif_opener(thumbnails=False)
    return "HEIF"
