"""An index's roots: the addresses below which its files lie, each file below the deepest root that holds it."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from model.errors import JobError
from model.files import absolute
from model.images.sources import INSIDE, archive_protocol, file_system, is_archive_member, is_local, join
from model.pacs.address import is_pacs, parse_pacs


@dataclass(frozen=True, slots=True)
class Archive:
    """What to walk: all that lies below an address, or only some ``members``, paths below it in order."""

    address: str
    members: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True)
class Root:
    """What to walk of an index's root.

    Attributes:
        number: of the root in the index's description.
        address: a local folder or file, an archive file (``zip://::/data/a.zip``), or any fsspec address.
        below: the part that was asked for; empty: all.
        members: if given, only these paths below ``address``, in order.
        skip: absolute local paths that are left out of the walk.
        nested: whether zip and tar files among the files are walked as folders are, one level deep.
    """

    number: int
    address: str
    below: str = ""
    members: tuple[str, ...] | None = None
    skip: frozenset[str] = frozenset()
    nested: bool = True

    def covers(self, directory: str) -> bool:
        """Whether the walk would come to a directory of the root, if it is there."""
        return not self.below or directory == self.below or directory.startswith(f"{self.below}/")

    @property
    def start(self) -> str:
        """The address where the walk starts."""
        return join(self.address, self.below)

    @property
    def is_whole(self) -> bool:
        """Whether the walk sees everything below its start, so that what it does not see is gone."""
        if self.members is not None:
            return False
        if is_pacs(self.address):
            return not parse_pacs(self.start).instance
        if is_local(self.address):
            return Path(self.start).is_dir() or (
                archive_protocol(self.below) is not None and Path(self.start).is_file()
            )
        try:
            system, path = file_system(self.start)
            return bool(system.isdir(path)) or not path
        except Exception:  # what cannot be asked, the walk will name; until then nothing is called gone from it
            return False


def number_roots(known: Sequence[str], archives: Sequence[Archive]) -> tuple[tuple[str, ...], list[Root]]:
    """All roots of an index, old ones under their old numbers, and what to walk for these archives.

    Everything belongs to the deepest root that holds it, so that no file is indexed under two: what lies inside a known
    root is a part of it, and a walk around known roots leaves those out, and they are walked beside it.
    """
    names = list(known)
    whole: dict[tuple[int, str], Root] = {}
    members: dict[int, set[str]] = {}

    def place(address: str, root: str) -> tuple[int, str]:
        """Number of the deepest root that holds an address, and the path below it; ``root`` is made if none does."""
        holders = [name for name in names if below(address, name) is not None]
        if not holders:
            names.append(root)
            holders = [root]
        deepest = max(holders, key=len)
        return names.index(deepest), below(address, deepest) or ""

    def add_whole(address: str, root: str) -> None:
        number, path = place(address, root)
        others = ((name, archive_file_of(name)) for name in names if name != names[number])
        inner = {name: holder for name, holder in others if below(holder, address)}
        whole[number, path] = Root(number, names[number], path, None, frozenset(inner.values()))
        for name in inner:
            add_whole(name, name)

    def add_member(address: str, root: str) -> None:
        if inside := _inside(address, names):
            add_whole(inside, inside)
        elif is_local(address) and Path(address).is_dir():
            add_whole(address, root)
        else:
            number, path = place(address, root)
            members.setdefault(number, set()).add(path)

    for archive in archives:
        if archive.members is None:
            add_whole(archive.address, archive.address)
    for archive in archives:
        for member in archive.members or ():
            add_member(join(archive.address, member), archive.address)
    return tuple(names), _outermost(whole, members, names)


def _outermost(
    whole: Mapping[tuple[int, str], Root], members: Mapping[int, Collection[str]], names: Sequence[str]
) -> list[Root]:
    """What is walked: parts of roots that lie in no other one, and single paths that lie in none."""
    roots = [root for (number, path), root in whole.items() if not any((number, up) in whole for up in _above(path))]
    for number, paths in members.items():
        outside = [path for path in paths if not any((number, up) in whole for up in (path, *_above(path)))]
        if outside:
            roots.append(Root(number, names[number], "", tuple(sorted(outside))))
    return roots


def parts_of(roots: Sequence[str], named: str) -> list[Root]:
    """Find the parts of an index's roots that lie at, or below, a named folder, file or address.

    They need not exist any more. The members of a zip or tar file lie below that file.

    Args:
        roots: addresses of the index's roots, in the order of their numbers.
        named: local path or fsspec address, as a user types it.
    """
    address = absolute(named) if is_local(named) else named.rstrip("/")
    parts = []
    for number, root in enumerate(roots):
        if any(below(one, address) is not None for one in (root, archive_file_of(root))):
            parts.append(Root(number, root))
        elif path := below(address, root):
            parts.append(Root(number, root, path))
    return parts


def archive_file_of(root: str) -> str:
    """The archive file of which a root is the inside; any other root itself."""
    return root.rpartition("::")[2] if is_archive_member(root) else root


def _inside(address: str, names: Sequence[str]) -> str | None:
    """The root that is the inside of an archive file, if there is one."""
    return next((name for name in names if name != address and archive_file_of(name) == address), None)


def _above(path: str) -> Iterator[str]:
    """The folders that hold a path below a root, the root itself (empty) among them."""
    while path:
        path = path.rpartition("/")[0]
        yield path


def below(address: str, root: str) -> str | None:
    """The path of an address below a root, empty for the root itself; ``None`` if it is not below it.

    A member of an archive file lies below that file where it is walked as a folder: see :mod:`model.images.sources`.
    """
    if address == root:
        return ""
    if is_archive_member(address):
        protocol, _, member = address.rpartition("::")[0].partition("://")
        if is_archive_member(root):
            kind, _, folder = root.rpartition("::")[0].partition("://")
            same = (kind, archive_file_of(root)) == (protocol, archive_file_of(address))
            return _below_folder(member, folder) if same else None
        path = below(archive_file_of(address), root)
        if not path or archive_protocol(path) != protocol:
            return None
        return f"{path}{INSIDE}{member}" if member else path
    return _below_folder(address, root) if is_local(root) or "::" not in root else None


def _below_folder(path: str, folder: str) -> str | None:
    prefix = folder if not folder or folder.endswith("/") else f"{folder}/"
    return path.removeprefix(prefix) if path.startswith(prefix) else None


def require_utf8_address(address: str) -> None:
    """Refuse an archive whose address is not UTF-8, as the index must store it.

    Files below an archive may have such names: each of them is left out and named in the report.

    Raises:
        JobError: the address is not UTF-8.
    """
    try:
        address.encode()
    except UnicodeEncodeError as error:
        shown = address.encode(errors="backslashreplace").decode()
        raise JobError(f"{shown} is not UTF-8: rename it, or index the folder that holds it") from error
