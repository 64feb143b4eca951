"""Finding files: a stream of everything below the given roots, with size and time; only archive files are opened."""

from __future__ import annotations

import hashlib
import os
import stat
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

from index.roots import Root
from model.images.sources import (
    DAMAGED,
    INSIDE,
    archive_members,
    archive_protocol,
    describe_error,
    file_system,
    is_archive,
    is_archive_member,
    is_local,
    join,
)
from model.pacs.address import is_pacs
from workers.indexing.found import FoundDirectory, FoundFile
from workers.indexing.pacs_walk import KnownFiles, PacsWalk

NOT_TEXT = "its name is not UTF-8"

BROKEN_ARCHIVE = "it cannot be unpacked"

EMPTY_ARCHIVE = "an archive file without any file in it"

FOLDER_LINK = "a link to a folder elsewhere, which is not followed: name that folder to index it, too"


def discover(root: Root, pacs: PacsWalk | None = None, known: KnownFiles | None = None) -> Iterator[FoundDirectory]:
    """Walk a root depth first and in order of names.

    Memory is bounded by one directory, or by the table of contents of one archive file. A root that is
    a single file is found as one file with an empty name.

    Links to files are followed; links to directories are not, as they may lead in circles. Hidden
    files are files like any other. A directory that cannot be read has itself, the empty name, among its
    ``unreadable``.

    Args:
        root: what to walk.
        pacs: how a PACS is walked.
        known: what the ledger knows of the root, where it may save a PACS a question.
    """
    if is_pacs(root.address):
        yield from (pacs or PacsWalk()).walk(root, known)
    elif root.members is not None:
        yield from _members(root, root.members)
    elif is_archive_member(root.address):
        yield from _walk_archive(root.address, root.below)
    else:
        for directory in _walk_local(root) if is_local(root.address) else _walk_remote(root):
            prefix = f"{directory.path}/" if directory.path else ""
            files: list[FoundFile] = []
            nested: list[str] = []
            for file in directory.files:
                path = prefix + file.name
                if archive_protocol(path) and (root.nested or path == root.below):
                    nested.append(path)
                    if is_archive(join(root.address, path)):
                        continue
                files.append(file)
            yield replace(directory, files=files)
            taken = {prefix + file.name for file in files}
            for path in nested:
                if path in taken:  # no archive file now: a picture, or one that is still being written
                    yield FoundDirectory(path, [], {}, incomplete=True)
                else:
                    yield from _walk_nested(root, path)


def _members(root: Root, members: tuple[str, ...]) -> Iterator[FoundDirectory]:
    """The files of a list, those of a directory together, as who is told looks each directory up."""
    directories: defaultdict[str, list[str]] = defaultdict(list)
    for member in members:
        directories[member.rpartition("/")[0]].append(member)
    for directory, inside in directories.items():
        files: list[FoundFile] = []
        unreadable: dict[str, str] = {}
        for member in inside:
            if not _is_text(member):
                yield FoundDirectory("", [], {_escaped(member): NOT_TEXT})
                continue
            for found in discover(replace(root, below=member, members=None)):
                if found.path == directory:
                    files += found.files
                    unreadable |= found.unreadable
                else:  # a folder, or what is in it
                    yield found
        if files or unreadable:
            yield FoundDirectory(directory, files, unreadable)


def _walk_local(root: Root) -> Iterator[FoundDirectory]:
    start = Path(root.start)
    if not start.is_dir():
        yield _single_file(root)
        return
    pending = [(str(start), root.below)]
    while pending:
        absolute, relative = pending.pop()
        prefix = f"{relative}/" if relative else ""
        files: list[FoundFile] = []
        unreadable: dict[str, str] = {}
        inner: list[tuple[str, str]] = []
        try:
            with os.scandir(absolute) as entries:
                for entry in entries:
                    if not _is_text(entry.name):
                        unreadable[_escaped(entry.name)] = NOT_TEXT
                        continue
                    if entry.path in root.skip:
                        continue
                    if entry.is_dir(follow_symlinks=False):
                        inner.append((entry.path, prefix + entry.name))
                        continue
                    try:
                        status = entry.stat()
                    except OSError as error:
                        unreadable[entry.name] = error.strerror or str(error)
                        continue
                    if stat.S_ISREG(status.st_mode):
                        files.append(FoundFile(entry.name, status.st_size, status.st_mtime_ns))
                    elif not stat.S_ISDIR(status.st_mode):
                        unreadable[entry.name] = "no regular file"
                    elif not _is_inside(entry.path, start):
                        unreadable[entry.name] = FOLDER_LINK
        except OSError as error:
            unreadable[""] = error.strerror or str(error)
        files.sort(key=lambda file: file.name)
        inner.sort(reverse=True)
        pending.extend(inner)
        yield FoundDirectory(relative, files, unreadable)


def _is_inside(link: str, start: Path) -> bool:
    """Whether a link to a folder leads to what is walked anyway."""
    target, walked = os.path.realpath(link), os.path.realpath(start)
    return os.path.commonpath([target, walked]) == walked


def _walk_nested(root: Root, path: str) -> Iterator[FoundDirectory]:
    """The entries of an archive file at a path below a root."""
    empty = True
    for directory in _walk_archive(f"{archive_protocol(path)}://::{join(root.address, path)}", ""):
        if "" in directory.unreadable:  # the archive file itself
            yield FoundDirectory(path, [], {"": directory.unreadable[""]})
            return
        empty = empty and not directory.files and not directory.unreadable
        # By the whole path of a file, as it is split everywhere: a member's own name may begin with a slash.
        found: dict[str, FoundDirectory] = {}
        inside = f"{path}{INSIDE}" + (f"{directory.path}/" if directory.path else "")
        for file in directory.files:
            below, _, name = f"{inside}{file.name}".rpartition("/")
            found.setdefault(below, FoundDirectory(below, [], {}, directory.incomplete)).files.append(
                file._replace(name=name)
            )
        for name, why in directory.unreadable.items():
            below, _, last = f"{inside}{name}".rpartition("/")
            found.setdefault(below, FoundDirectory(below, [], {}, directory.incomplete)).unreadable[last] = why
        yield from found.values()
    if empty:
        yield FoundDirectory(path, [], {"": EMPTY_ARCHIVE})


def _walk_archive(address: str, below: str) -> Iterator[FoundDirectory]:
    """The entries of a zip or tar file by its table of contents, so that none is overlooked, whatever it is called."""
    directories: dict[str, FoundDirectory] = {}
    problem = None
    try:
        for member in archive_members(address):
            if below and not (member.name == below or member.name.startswith(f"{below}/")):
                continue
            path, name = _rooted(member.name)
            directory = directories.setdefault(path, FoundDirectory(path, [], {}))
            if not _is_text(member.name):
                directory.unreadable[_escaped(name)] = NOT_TEXT
            elif member.problem:
                directory.unreadable[name] = member.problem
            else:
                directory.files.append(FoundFile(name, member.size, member.version))
    except DAMAGED as error:
        problem = f"{BROKEN_ARCHIVE}: {describe_error(error, join(address, below))}"
    except Exception as error:  # one archive that cannot be reached is no reason to leave the others
        problem = describe_error(error, join(address, below))
    if not directories and problem is None:
        yield FoundDirectory(below, [], {})
    for directory in directories.values():  # in the archive file's order: going back in a compressed one is slow
        yield replace(directory, incomplete=problem is not None)
    if problem is not None:
        yield FoundDirectory(below, [], {"": problem})


def _rooted(name: str) -> tuple[str, str]:
    """Folder and name of an entry; joined by a slash they are its name again, also where that is absolute."""
    folder, _, last = name.rpartition("/")
    return (folder, last) if folder else ("", name)


def _single_file(root: Root) -> FoundDirectory:
    directory, _, name = root.below.rpartition("/")
    if root.start in root.skip:
        return FoundDirectory(directory, [], {})
    try:
        status = Path(root.start).stat()
    except OSError as error:  # of a list, or gone since the job began
        return FoundDirectory(directory, [], {name: error.strerror or str(error)})
    if not stat.S_ISREG(status.st_mode):
        return FoundDirectory(directory, [], {name: "no regular file"})
    return FoundDirectory(directory, [FoundFile(name, status.st_size, status.st_mtime_ns)], {})


def _is_text(name: str) -> bool:
    """Whether a name can be stored: Python stands in surrogates for the bytes of a name that is not UTF-8."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def _escaped(name: str) -> str:
    return name.encode(errors="backslashreplace").decode()


def _walk_remote(root: Root) -> Iterator[FoundDirectory]:
    directory, _, single = root.below.rpartition("/")
    try:
        system, start = file_system(root.start)
        is_file = bool(start) and system.isfile(start)
        one = [_found(single, system.info(start))] if is_file else []
    except Exception as error:  # one archive that cannot be reached is no reason to leave the others
        yield FoundDirectory(root.below, [], {"": describe_error(error, root.start)})
        return
    if is_file:
        yield FoundDirectory(directory, one, {})
        return
    pending = [(start, root.below)]
    while pending:
        path, relative = pending.pop()
        files: list[FoundFile] = []
        inner: list[tuple[str, str]] = []
        unreadable: dict[str, str] = {}
        try:
            for entry in system.ls(path, detail=True):
                inside = str(entry["name"]).rstrip("/")
                name = inside.rpartition("/")[2]
                if not name or inside.strip("/") == path.strip("/"):  # object stores list a folder in itself
                    continue
                below = f"{relative}/{name}" if relative else name
                if not _is_text(name):
                    unreadable[_escaped(name)] = NOT_TEXT
                elif join(root.address, below) in root.skip:
                    continue
                elif entry["type"] == "directory":
                    inner.append((inside, below))
                else:
                    files.append(_found(name, entry))
        except Exception as error:  # file systems of fsspec raise what their client libraries raise
            unreadable[""] = describe_error(error, path)
        system.invalidate_cache(path)  # else it keeps the listings of the whole walk
        files.sort(key=lambda file: file.name)
        inner.sort(reverse=True)
        pending.extend(inner)
        yield FoundDirectory(relative, files, unreadable)


def _found(name: str, info: dict[str, Any]) -> FoundFile:
    return FoundFile(name, int(info.get("size") or 0), _change_number(info))


def _change_number(info: dict[str, Any]) -> int:
    """A number that changes with a file, from what its file system tells: a checksum, a tag, or a time."""
    if isinstance(checksum := info.get("CRC"), int):
        return checksum
    for key in ("ETag", "etag", "md5Hash", "content_md5", "sha", "Last-Modified", "modify"):
        if info.get(key):
            return int.from_bytes(hashlib.sha256(str(info[key]).encode()).digest()[:7], "big")
    for key in ("mtime", "LastModified", "last_modified", "updated", "modified", "created"):
        value = info.get(key)
        if isinstance(value, datetime):
            return int(value.timestamp() * 1e9)
        if isinstance(value, int | float):
            return int(value * 1e9)
    return 0
