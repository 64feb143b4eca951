"""What a file is that is no image, by its first bytes, and what to do with it."""

from __future__ import annotations

from typing import Final

_KINDS: Final = (
    (b"PK\x03\x04", "a zip file, or a document that is one: name it as an archive to index what is in it"),
    (b"7z\xbc\xaf\x27\x1c", "a 7z file: unpack it, and index the folder"),
    (b"Rar!\x1a\x07", "a RAR file: unpack it, and index the folder"),
    (b"BZh", "compressed by bzip2: unpack it, or name it as an archive if it is a tar file"),
    (b"\xfd7zXZ\x00", "compressed by xz: unpack it, or name it as an archive if it is a tar file"),
    (b"\x28\xb5\x2f\xfd", "compressed by zstd: unpack it"),
    (b"%PDF", "a PDF document"),
)

_OTHER: Final = (
    "by its content neither DICOM nor a picture: TIFF, PNG, JPEG (2000, LS, XL), BMP, GIF, WebP, HEIC, AVIF, PGM, PPM"
)


def what_it_is(start: bytes) -> str:
    """What a file is that begins so, in words for the person who finds it left out."""
    return next((kind for signature, kind in _KINDS if start.startswith(signature)), _OTHER)
