"""The bytes of an image file, wherever they lie: a local path, a member of a zip or tar, any fsspec address.

An address is a local path or what fsspec understands: ``s3://bucket/a.dcm``, ``memory://a.dcm``, or, for a member of an
archive file, ``zip://folder/a.dcm::/data/archive.zip``. Files compressed by gzip are read as what is in them.
"""

from __future__ import annotations

import gzip
import lzma
import os
import re
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import IO, Any, Final, cast

from model.errors import CbmirError, ImageError, Reason
from model.pacs.address import is_pacs

WHOLE_FILE_LIMIT = 2**25
"""Bytes up to which a file is read at once; of larger ones a frame at a time is in memory."""

MAX_INFLATED = 2**31
"""Bytes to which a compressed file may grow."""

INSIDE: Final = "//"
"""Between an archive file's path and what is in it; no path of a file system holds an empty name."""

_SUFFIXES: Final = {
    ".zip": "zip",
    **dict.fromkeys((".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tbz", ".tar.xz", ".txz"), "tar"),
}

_START = 512
"""Bytes by which a format is told: the preamble and prefix of DICOM, or the header of a tar file."""

_GZIP = b"\x1f\x8b\x08"

_COMPRESSIONS = {_GZIP: "gzip", b"BZh": "bz2", b"\xfd7zXZ\x00": "xz"}
"""First bytes of a compressed tar file, and how fsspec calls the compression."""


@dataclass(frozen=True, slots=True)
class Source:
    """An image file's bytes: all of them, or their start and a local file that holds them.

    Attributes:
        address: how to name the file to a person.
        start: the first 512 bytes.
        content: the whole file, or ``None`` if it is larger than :data:`WHOLE_FILE_LIMIT`.
        path: a local file with these bytes; only to be read if ``content`` is ``None``.
    """

    address: str
    start: bytes
    content: bytes | None
    path: Path


def is_local(address: str) -> bool:
    """Whether an address is a path of this machine's file system."""
    return "://" not in address


def join(root: str, path: str) -> str:
    """The address of what lies at ``path`` below a root, which may be a folder, an archive file or an address.

    A member of an archive file that lies below the root stands behind two slashes: ``2024/export.zip//folder/a.dcm``.
    """
    if not path:
        return root
    outer, inside, member = path.partition(INSIDE)
    if inside and "::" not in root and (protocol := archive_protocol(outer)):
        return f"{protocol}://{member}::{join(root, outer)}"
    if "::" in root and not is_local(root):
        inner, outer = root.split("::", 1)
        return f"{inner}{'' if inner.endswith('/') else '/'}{path}::{outer}"
    return f"{root}{'' if root.endswith('/') else '/'}{path}"


@contextmanager
def open_source(address: str | Path, wanted: Callable[[bytes], bool]) -> Iterator[Source]:
    """Open an image file's bytes; what they need of temporary files goes when the context is left.

    Args:
        address: see above.
        wanted: whether a file that starts so is of use; if it is not, only its start is unpacked or fetched.

    Raises:
        ImageError: the file cannot be read, is empty, or grows beyond :data:`MAX_INFLATED`.
    """
    address = str(address)
    with ExitStack() as stack:
        try:
            source = _local(address) if is_local(address) else None
            if source is None or source.start.startswith(_GZIP):
                source = _streamed(address, wanted, stack)
        except ImageError:
            raise
        except CbmirError as error:  # of a PACS
            raise ImageError(address, Reason.UNREACHABLE, str(error)) from error
        except Exception as error:  # file systems of fsspec raise what their client libraries raise
            raise ImageError(address, _reason(error, address), describe_error(error, address)) from error
        if not source.start:
            raise ImageError(address, Reason.EMPTY_FILE, "the file has no content")
        yield source


def _reason(error: Exception, address: str) -> Reason:
    """Whether a file is not readable, or its storage did not give it now: it refused, was too slow, or was cut off."""
    storage = address.rpartition("::")[2]
    lasting: tuple[type[Exception], ...] = (FileNotFoundError, IsADirectoryError, NotADirectoryError, KeyError)
    if is_archive_member(address):
        lasting += (RuntimeError, NotImplementedError)  # an encrypted entry, or a compression that nobody knows
    return Reason.UNREADABLE if is_local(storage) or isinstance(error, lasting) else Reason.UNREACHABLE


def storage_answers(address: str) -> bool:
    """Whether the storage of an archive can be asked now, whatever it says of single files."""
    storage = address.rpartition("::")[2]
    try:
        system, path = file_system(storage)
        system.invalidate_cache()
        system.info(path)
    except FileNotFoundError:
        return True
    except Exception:  # file systems of fsspec raise what their client libraries raise
        return False
    return True


def _local(address: str) -> Source:
    path = Path(address)
    with path.open("rb") as file:
        large = os.fstat(file.fileno()).st_size > WHOLE_FILE_LIMIT
        content = file.read(_START if large else -1)
    return Source(address, content[:_START], None if large else content, path)


def _streamed(address: str, wanted: Callable[[bytes], bool], stack: ExitStack) -> Source:
    """Read what is no plain local file: into memory if it is small, else into a temporary file."""
    stream: IO[bytes] = stack.enter_context(_open(address))
    try:
        content = _read(stream, _START)
        packed = content.startswith(_GZIP)
        if packed:
            stream.seek(0)
            stream = cast("IO[bytes]", stack.enter_context(gzip.GzipFile(fileobj=stream)))
            content = _read(stream, _START)
        limit = MAX_INFLATED if packed or "::" in address else None
        start = content
        if not wanted(start):
            return Source(address, start, content, Path(address))
        content += _read(stream, WHOLE_FILE_LIMIT + 1 - len(content))
        if len(content) <= WHOLE_FILE_LIMIT:
            return Source(address, start, content, Path(address))
        file = stack.enter_context(tempfile.NamedTemporaryFile(prefix="cbmir-"))  # noqa: SIM115 (the stack closes it)
        size = file.write(content)
        while block := stream.read(2**22):
            size += file.write(block)
            if limit is not None and size > limit:
                raise ImageError(address, Reason.TOO_LARGE, f"its content is larger than {limit:,} bytes")
    except zipfile.BadZipFile as error:  # its text has the member's name, escaped
        raise ImageError(address, Reason.CORRUPT, "it cannot be unpacked: it is damaged in the zip file") from error
    except DAMAGED as error:
        raise ImageError(address, Reason.CORRUPT, f"it cannot be unpacked: {describe_error(error, address)}") from error
    file.flush()
    return Source(address, start, None, Path(file.name))


def _read(stream: IO[bytes], size: int) -> bytes:
    """So many bytes, fewer only at the end: streams over a network give what has come."""
    parts = []
    while size > 0 and (part := stream.read(size)):
        parts.append(part)
        size -= len(part)
    return b"".join(parts)


def _open(address: str) -> IO[bytes]:
    if is_local(address):
        return Path(address).open("rb")
    system, path = file_system(address)
    if is_archive_member(address):
        # By its exact name: the file system's own open takes a leading or a double slash for none.
        path = address.rpartition("::")[0].partition("://")[2]
        member: IO[bytes]
        member = system.zip.open(path) if address.startswith("zip") else system._open(path, "rb")  # noqa: SLF001 (its open changes the name)
        return member
    stream: IO[bytes] = system.open(path, "rb")
    return stream


def archive_protocol(name: str) -> str | None:
    """How fsspec calls the kind of archive file that a name stands for, ``None`` if it is no such name."""
    return next((kind for suffix, kind in _SUFFIXES.items() if name.lower().endswith(suffix)), None)


def without_suffix(name: str) -> str:
    """The name of an archive file without what says that it is one; any other name as it is."""
    suffix = next((suffix for suffix in _SUFFIXES if name.lower().endswith(suffix)), "")
    return name[: len(name) - len(suffix)]


ARCHIVE_PROTOCOLS = frozenset({"zip", "tar"})


def is_archive_member(address: str) -> bool:
    """Whether an address names something in a zip or tar file, or all of it."""
    return "::" in address and address.partition("://")[0] in ARCHIVE_PROTOCOLS


@dataclass(frozen=True, slots=True)
class Member:
    """An entry of a zip or tar file: its exact name, its size in bytes, and a number that changes with its content.

    ``problem`` says why it cannot be read, if it is no file.
    """

    name: str
    size: int
    version: int
    problem: str | None = None


DAMAGED: Final = (EOFError, zlib.error, lzma.LZMAError, gzip.BadGzipFile, zipfile.BadZipFile, tarfile.TarError)
"""What the libraries raise for archive files that are damaged for good, so that trying again is useless."""


def is_archive(address: str) -> bool:
    """Whether a file whose name says so is a zip or tar file by its content; one that cannot be read counts as one."""
    try:
        with _open(address) as file:
            if archive_protocol(address) == "zip":
                return zipfile.is_zipfile(file)
            with tarfile.open(fileobj=file, mode="r:*"):
                return True
    except DAMAGED:
        return False
    except Exception:  # the walk of its entries says why
        return True


def archive_members(address: str) -> Iterator[Member]:
    """Every entry of a zip or tar file but its folders, under the name that it has there, whatever that looks like.

    Of entries of one name only the last can be read, and is given. They come in the order of the archive file.

    Raises:
        Exception: of :data:`DAMAGED`, also behind the entries that are whole; or what its file system raises.
    """
    system, _ = file_system(address)
    members: dict[str, Member] = {}
    if address.partition("://")[0] == "zip":
        for info in system.zip.infolist():
            if not info.is_dir():
                members[info.filename] = Member(info.filename, info.file_size, info.CRC)
        yield from members.values()
        return
    for entry in system.tar.getmembers():
        if entry.isfile():
            members[entry.name] = Member(entry.name, entry.size, int(entry.mtime * 1e9))
        elif not entry.isdir():
            members[entry.name] = Member(entry.name, 0, 0, "a link or a device, and no file")
    yield from members.values()
    # tarfile takes a header that is damaged, or cut off, for the end; the true end is a block of zeros.
    system.tar.fileobj.seek(system.tar.offset)
    if system.tar.fileobj.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
        raise tarfile.ReadError("it is damaged, or cut off, behind its last entry")


def file_system(address: str) -> tuple[Any, str]:
    """The fsspec file system of an address, and the path in it.

    Archive files keep their table of contents for the life of the process: fsspec would read it anew for every member.
    """
    import fsspec

    inner, separator, outer = address.rpartition("::")
    if is_pacs(address):
        fsspec.register_implementation(address.partition("://")[0], "model.pacs.file_system.PacsFileSystem")
    if separator:
        protocol, _, path = inner.partition("://")
        return _archive(protocol, outer, _version(outer)), path.strip("/")
    try:
        return tuple(fsspec.core.url_to_fs(address))
    except ImportError as error:
        raise ImportError(_what_to_install(address, error)) from error


_EXTRAS = {
    **dict.fromkeys(("s3", "s3a"), "s3"),
    **dict.fromkeys(("gs", "gcs"), "gcs"),
    **dict.fromkeys(("az", "abfs", "abfss", "adl"), "azure"),
}
"""This program's extra that reads a kind of address."""


def _what_to_install(address: str, error: ImportError) -> str:
    protocol = address.partition("://")[0]
    if extra := _EXTRAS.get(protocol):
        return f"what reads {protocol}:// is not installed: pip install 'cbmir[{extra}]'"
    return str(error)


@lru_cache(maxsize=4)
def _archive(protocol: str, outer: str, _version: object) -> Any:
    import fsspec

    # Of a tar file fsspec would guess the compression by its name.
    return fsspec.filesystem(protocol, fo=outer, **({"compression": _compression(outer)} if protocol == "tar" else {}))


def _compression(outer: str) -> str | None:
    import fsspec

    with fsspec.open(outer, "rb") as file:
        start = file.read(6)
    return next((name for magic, name in _COMPRESSIONS.items() if start.startswith(magic)), None)


def _version(outer: str) -> object:
    """What changes when a local archive file is replaced, so that no stale table of contents is used."""
    if not is_local(outer):
        return None
    status = Path(outer).stat()
    return status.st_size, status.st_mtime_ns


def describe_error(error: Exception, address: str) -> str:
    """An error in one line without the names of the address, which may be a patient's."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    text = " ".join(str(error).split())
    names = {address, *re.split(r"[/:]+", re.sub(r"^\w+://", "", address))}
    names |= {repr(name)[1:-1] for name in names}
    for name in sorted(names, key=len, reverse=True):
        if len(name) > 2:
            text = text.replace(name, "…")
    return text or type(error).__name__
