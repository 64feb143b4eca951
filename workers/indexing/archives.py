"""What can be indexed: folders and files, zip and tar files, globs, lists, DICOMDIRs, and fsspec addresses."""

from __future__ import annotations

import glob
import os
import re
import tarfile
import zipfile
from collections.abc import Iterable, Sequence
from pathlib import Path

from index.roots import Archive, require_utf8_address
from model.errors import JobError
from model.files import absolute
from model.images.dicomdir import dicomdir_members, is_dicomdir
from model.images.sources import archive_protocol, describe_error, file_system, is_archive, is_local
from model.pacs.access import Access
from model.pacs.address import is_pacs
from model.pacs.client import connect

STANDARD_INPUT = "-"

_PASSWORD = re.compile(r"://[^/@]*:[^/@]*@")


def resolve_archives(
    named: Sequence[Archive | str | Path], listed: Iterable[str] = (), access: Access | None = None
) -> list[Archive]:
    """What the arguments of a command line mean.

    Args:
        named: local paths, globs, addresses, or ``-`` for the list; archives stay as they are.
        listed: paths of files and folders, one a line.
        access: how a PACS is spoken to; by default as the environment says.

    Raises:
        JobError: something does not exist, or an address cannot be reached.
    """
    return [
        one
        if isinstance(one, Archive)
        else _listed(listed, "the list")
        if one == STANDARD_INPUT
        else resolve_archive(one, access)
        for one in named
    ]


def resolve_archive(named: str | Path, access: Access | None = None) -> Archive:
    """What one argument means.

    Raises:
        JobError: it does not exist, or cannot be reached.
    """
    text = str(named)
    require_utf8_address(text)
    if is_pacs(text):
        return _answering(text, access or Access.from_environment())
    if not is_local(text):
        return _reachable(text)
    path = Path(absolute(text))
    if path.is_dir():
        return Archive(str(path))
    if path.is_file():
        return _file(path)
    if path.exists():  # a pipe or a device: left out by name
        return Archive(str(path))
    if glob.has_magic(text):
        return _listed(glob.iglob(text, recursive=True, include_hidden=True), text)  # noqa: PTH207 (any pattern)
    raise JobError(f"{path} does not exist: give a folder or a file to index")


def _file(path: Path) -> Archive:
    if zipfile.is_zipfile(path):
        return Archive(f"zip://::{path}")
    if is_dicomdir(path):
        return Archive(str(path.parent), dicomdir_members(path))
    try:
        if tarfile.is_tarfile(path):
            return Archive(f"tar://::{path}")
    except (OSError, EOFError, ValueError):  # looked like a compressed tar, and is none
        return Archive(str(path))
    return Archive(str(path))


def _answering(address: str, access: Access) -> Archive:
    if _PASSWORD.search(address):
        raise JobError(
            "the address of a PACS cannot hold a password: set CBMIR_PACS_USER and CBMIR_PACS_PASSWORD instead"
        )
    pacs = connect(address, access, patient=False)
    try:
        pacs.check()
    finally:
        pacs.close()
    return Archive(address.rstrip("/"))


def _reachable(address: str) -> Archive:
    if _PASSWORD.search(address):
        # Addresses are kept in the index, the report and the log.
        raise JobError("the address of an archive cannot hold a password: put it into fsspec's configuration file")
    try:
        system, path = file_system(address)
        exists = system.exists(path)
    except Exception as error:  # every file system of fsspec raises what its client library raises
        raise JobError(f"{address} cannot be reached: {describe_error(error, '')}") from error
    if not exists:
        raise JobError(f"{address} does not exist: give a folder or a file to index")
    if "::" not in address and (protocol := archive_protocol(address)) and system.isfile(path) and is_archive(address):
        return Archive(f"{protocol}://::{address}")
    scheme, _, rest = address.partition("://")
    return Archive(address if "::" in address else f"{scheme}://{rest.rstrip('/')}")


def _listed(paths: Iterable[str], name: str) -> Archive:
    """Files and folders of a list, below the deepest folder that holds them all."""
    files = {absolute(line) for path in paths if (line := path.rstrip("\r\n"))}
    if not files:
        raise JobError(f"{name} names no file: give at least one")
    parent = os.path.commonpath([os.path.dirname(path) for path in files])  # noqa: PTH120
    require_utf8_address(parent)
    return Archive(parent, tuple(sorted(os.path.relpath(path, parent) for path in files)))
