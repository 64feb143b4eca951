"""True classes of an archive's files, where its owner knows them: for wrong-class hits and measures."""

from __future__ import annotations

import os
from pathlib import Path

from model.repository import read_manifest
from model.sources import join
from workers.planning import Labels

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
    by_path = {os.path.normpath(file.path): file.label for file in read_manifest(Path(labels).absolute())}

    def by_manifest(archive: str, path: str) -> str | None:
        return by_path.get(os.path.normpath(join(archive, path)))

    return by_manifest


def _by_folder(_archive: str, path: str) -> str | None:
    folder, separator, _ = path.partition("/")
    return folder if separator else None
