"""The one tree of exceptions of this project.

::

    CbmirError
    ├── SettingError                 an option or combination of options that cannot work
    ├── ImageError                   one file cannot be read as a picture (path, reason, detail)
    ├── RepositoryError              a labelled repository cannot be trained on
    ├── DatasetError                 a dataset cannot be planned, fetched or split
    ├── CheckpointError              a file is no checkpoint of this program, or of another version
    ├── VectorIndexError             an index cannot be opened, read or written
    │   ├── NotAnIndexError          the address holds no index
    │   │   └── NothingThereError    it holds nothing at all, so that an index can be made there
    │   ├── IndexLockedError         another process holds the index
    │   ├── ModelMismatchError       the index was made by another model, or stores other layers
    │   ├── NonFiniteFeaturesError   a vector holds NaN or infinity
    │   └── DiskFullError            too little space is left to write safely
    ├── JobError                     an indexing job cannot start or go on
    └── Interrupted                  Ctrl-C, after what was done was made safe
        ├── TrainingInterrupted
        └── JobInterrupted

Every message is one sentence for the person at the terminal: it names the file or setting and what to do.
All of them survive pickling, so that a Ray worker can raise them in the driver.
"""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path


class CbmirError(Exception):
    """Base of every error that this project raises on purpose."""


class SettingError(CbmirError):
    """An option, or a combination of options, cannot work."""


class Reason(StrEnum):
    """Why a file was left out: the key under which job reports count it."""

    EMPTY_FILE = "empty file"
    UNREADABLE = "unreadable file"
    UNREACHABLE = "not reachable"
    NOT_AN_IMAGE = "not an image"
    NO_PIXEL_DATA = "no pixel data"
    BURNED_IN = "burned-in annotation"
    NOT_A_PICTURE = "not a picture of a patient"
    UNSUPPORTED = "unsupported transfer syntax"
    TOO_LARGE = "too large"
    CORRUPT = "corrupt or truncated"
    NON_FINITE = "features not finite"
    CRASHED = "decoder crashed"
    FOLDER_LINK = "link to a folder"
    DELETED = "deleted"


class ImageError(CbmirError):
    """One file, or one frame of it, cannot be read as a picture.

    Attributes:
        path: the file.
        reason: the kind of failure, under which reports count it.
        detail: what exactly was wrong, for a person to act on.
    """

    def __init__(self, path: str | Path, reason: Reason, detail: str) -> None:
        super().__init__(path, reason, detail)
        self.path = str(path)
        self.reason = reason
        self.detail = detail

    def __str__(self) -> str:
        return f"{self.path}: {self.reason.value}: {self.detail}"


class RepositoryError(CbmirError):
    """A labelled repository cannot be trained on."""


class DatasetError(CbmirError):
    """A dataset cannot be planned, fetched or split."""


class CheckpointError(CbmirError):
    """A file is no checkpoint of this program, is damaged, or comes from another version."""


class VectorIndexError(CbmirError):
    """An index cannot be opened, read or written."""


class NotAnIndexError(VectorIndexError):
    """The address holds no index."""


class NothingThereError(NotAnIndexError):
    """The address holds nothing at all, so that an index can be made there."""


class IndexLockedError(VectorIndexError):
    """Another process holds the index open."""


class ModelMismatchError(VectorIndexError):
    """The index was made by another model, or does not store the layer asked for."""


class NonFiniteFeaturesError(VectorIndexError):
    """A vector holds NaN or infinity; nothing of its batch was stored."""


class DiskFullError(VectorIndexError):
    """Too little disk space is left to write safely; everything stored before is intact."""


class JobError(CbmirError):
    """An indexing job cannot start or go on."""


class Interrupted(CbmirError):
    """The user stopped what was going on; what was done is safe."""


def was_interrupted(error: BaseException | None) -> bool:
    """Whether Ctrl-C caused an error.

    Python 3.11 makes one that comes while a class is created the cause of a RuntimeError; pydantic, which Ray imports,
    leaves only its name in the text of a SchemaError.
    """
    while error is not None:
        if isinstance(error, KeyboardInterrupt):
            return True
        if type(error).__name__ == "SchemaError" and "KeyboardInterrupt" in str(error):
            return True
        error = error.__cause__
    return False


class TrainingInterrupted(Interrupted):
    """Training was stopped; what was learned is on disk."""


class JobInterrupted(Interrupted):
    """An indexing job was stopped; everything stored is kept, and the report is written."""
