"""DICOMDIR: the list of the files on a medium (PS3.10 section 8, PS3.3 annex F)."""

from __future__ import annotations

import re
from pathlib import Path

from model.errors import JobError

_MEDIA_DIRECTORY = re.compile(rb"\b1\.2\.840\.10008\.1\.3\.10(?![0-9.])")
"""SOP Class UID of a DICOMDIR, as it stands in the meta header."""


def is_dicomdir(path: Path) -> bool:
    """Whether a file is a DICOMDIR, by its meta header."""
    with path.open("rb") as file:
        start = file.read(1024)
    return start[128:132] == b"DICM" and bool(_MEDIA_DIRECTORY.search(start))


def dicomdir_members(path: Path) -> tuple[str, ...]:
    """Paths of the files that a DICOMDIR refers to, below its folder, in order.

    File IDs are in upper case; on a disk that was copied in lower case they are found under those names.

    Raises:
        JobError: it cannot be parsed.
    """
    from pydicom import dcmread  # takes 0.3 s to import

    try:
        records = dcmread(path).get("DirectoryRecordSequence") or ()
        names = [record.get("ReferencedFileID") for record in records]
    except Exception as error:  # a damaged one makes pydicom raise whatever it likes
        raise JobError(f"{path} cannot be read as a DICOMDIR: {error}: index its folder instead") from error
    parts = [[name] if isinstance(name, str) else list(name) for name in names if name]
    # File IDs hold no such parts (PS3.10 section 8.2): a path out of the medium's folder is no member of it.
    paths = {"/".join(part) for part in parts if not any(one in {"", ".", ".."} or "/" in one for one in part)}
    return tuple(sorted(_on_disk(path.parent, name) for name in paths))


def _on_disk(folder: Path, name: str) -> str:
    lower = name.lower()
    return lower if not (folder / name).exists() and (folder / lower).exists() else name
