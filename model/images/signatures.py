"""What a file is by its content: which kind of volume; or, of what is no image, what to do with it."""

from __future__ import annotations

from typing import Final

from model.images.sources import Source, archive_protocol, is_archive, is_archive_member, is_local

_TAR, _ZIP, _ISO = "a tar file", "a zip file", "a disk image"

_KINDS: Final = (
    (0, b"PK\x03\x04", _ZIP),
    (257, b"ustar", _TAR),
    (0, b"7z\xbc\xaf\x27\x1c", "a 7z file"),
    (0, b"Rar!\x1a\x07", "a RAR file"),
    (0, b"BZh", "compressed by bzip2"),
    (0, b"\xfd7zXZ\x00", "compressed by xz"),
    (0, b"\x28\xb5\x2f\xfd", "compressed by zstd"),
)
"""Where in the file, what stands there, and what it is."""

_VOLUME: Final = 32_769, b"CD001"
"""The first volume descriptor of a disk image (ISO 9660, 8.1)."""

_OTHER: Final = (
    "by its content neither DICOM nor a picture: TIFF, PNG, JPEG (2000, LS, XL), BMP, GIF, WebP, HEIC, AVIF, PGM, PPM; "
    "nor a volume: NIfTI, NRRD, MetaImage"
)


def volume_reader(start: bytes) -> str | None:
    """How SimpleITK calls what reads a file that starts so; ``None`` if it is no volume."""
    little, big = start[:4] in {b"\x5c\x01\0\0", b"\x1c\x02\0\0"}, start[:4] in {b"\0\0\x01\x5c", b"\0\0\x02\x1c"}
    if (little or big) and (start[344:348] == b"n+1\0" or start[4:8] == b"n+2\0"):
        return "NiftiImageIO"
    if start.startswith(b"NRRD000"):
        return "NrrdImageIO"
    if start.startswith((b"ObjectType = Image", b"NDims = ")):
        return "MetaImageIO"
    return None


def what_it_is(source: Source) -> str:
    """What a file is, in words for the person who finds it left out, and what to do."""
    kind = next((kind for at, start, kind in _KINDS if source.start[at : at + len(start)] == start), None)
    if kind is None and _is_disk_image(source):
        kind = _ISO
    if kind is None:
        return "a PDF document" if source.start.startswith(b"%PDF") else _OTHER
    if is_archive_member(source.address):
        return f"{kind} in an archive file: unpack that, and index the folder"
    if archive_protocol(source.address):
        left_alone = is_archive(source.address)
        return f"{kind}, which --no-nested leaves alone" if left_alone else f"{kind} that is damaged, or cut off"
    if kind not in {_TAR, _ZIP}:
        return f"{kind}: unpack it, and index the folder"
    return f"{kind} by its content and not by its name: name it as an archive of its own to index what is in it"


def _is_disk_image(source: Source) -> bool:
    place, start = _VOLUME
    if not is_local(source.address) or not source.address.lower().endswith((".iso", ".img")):
        return False
    with source.path.open("rb") as file:
        file.seek(place)
        return file.read(len(start)) == start
