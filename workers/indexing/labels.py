"""True classes of an archive's files, where its owner knows them: for wrong-class hits and measures."""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

from index.roots import Archive
from model.errors import RepositoryError
from model.images.sources import is_local, join, without_suffix
from model.training.repository import read_manifest
from workers.indexing.planning import Labels

FOLDER = "folder"


def label_reader(labels: str | None) -> Labels | None:
    """How to find a file's label: by the first folder below its root, or in a manifest with ``path`` and ``label``.

    Raises:
        RepositoryError: the manifest cannot be read.
    """
    if labels is None:
        return None
    if labels == FOLDER:
        return _by_folder
    by_path = _read(*_version(Path(labels).absolute()))

    def by_manifest(archive: str, path: str) -> str | None:
        address = f"{archive}/{path}" if is_local(archive) else join(archive, path)
        return by_path.get(os.path.normpath(address))

    return by_manifest


def refuse_unmatched_labels(labels: str | None, archives: Sequence[Archive]) -> None:
    """Refuse a manifest of which no path is a file of the archives: all labels would be lost without a word.

    Whether a file is there can be told of local archives only.

    Raises:
        RepositoryError: names the first path, as it was understood.
    """
    if labels in (None, FOLDER) or not all(is_local(archive.address) for archive in archives):
        return
    paths = _read(*_version(Path(str(labels)).absolute()))
    starts = [archive.address.rstrip("/") for archive in archives]
    for path in paths:
        inside = any(path == start or path.startswith(f"{start}/") for start in starts)
        if inside and (os.path.lexists(path) or any(parent.is_file() for parent in Path(path).parents)):
            return
    first = next(iter(paths), "nothing")
    raise RepositoryError(
        f"none of the {len(paths):,} paths in {labels} is a file below {', '.join(starts)}; the first one is {first}: "
        "paths are taken relative to the manifest's folder"
    )


def _version(manifest: Path) -> tuple[Path, int]:
    return manifest, manifest.stat().st_mtime_ns if manifest.exists() else 0


@lru_cache(maxsize=1)
def _read(manifest: Path, _mtime_ns: int) -> dict[str, str]:
    """The manifest's labels by normalised path; a job asks for them twice."""
    return {os.path.normpath(file.path): file.label for file in read_manifest(manifest)}


def _by_folder(_archive: str, path: str) -> str | None:
    """Of files in ``liver.zip`` it is ``liver``."""
    folder, separator, _ = path.partition("/")
    return without_suffix(folder) if separator else None
