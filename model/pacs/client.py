"""What a PACS is asked for, whatever it speaks, and how a failure of it is told."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import date
from io import BytesIO
from typing import Protocol

from model.errors import ImageError, JobError, SettingError
from model.pacs.access import Access
from model.pacs.address import PacsAddress, parse_pacs

PATIENCE_SECONDS = 180.0
"""Time for which a server that is away is waited for."""


@dataclass(frozen=True, slots=True)
class Selection:
    """What of a PACS is wanted; the server selects, and what it gives beyond that is left alone.

    Attributes:
        modalities: Modality (0008,0060) of the series; empty: all.
        since: first Study Date (0008,0020).
    """

    modalities: tuple[str, ...] = ()
    since: date | None = None

    @property
    def is_everything(self) -> bool:
        """Whether what is not listed is gone from the server."""
        return not self.modalities and self.since is None


EVERYTHING = Selection()


@dataclass(frozen=True, slots=True)
class Study:
    """A study by its Study Instance UID, and the number of its instances, if the server tells."""

    uid: str
    instances: int | None = None


@dataclass(frozen=True, slots=True)
class Series:
    """A series by its Series Instance UID, and the number of its instances, if the server tells."""

    uid: str
    instances: int | None = None


@dataclass(frozen=True, slots=True)
class Instance:
    """An instance by its SOP Instance UID; its bytes, and a number that changes with it, if the server tells."""

    uid: str
    size: int = 0
    mark: int = 0


_SOP_INSTANCE_UID = 0x00080018

Place = tuple[str, str, str]
"""UIDs of an instance: of its study, its series and itself."""

Turn = Callable[[], None]
"""Called before an instance is asked for; returns when it may be."""


class Pacs(Protocol):
    """A server that holds instances. One connection, or several, until it is closed.

    Attributes:
        questions: how many threads may ask for series and instances at once.
        repeated: results of the longest page that came twice: there may be more of them, which it does not give.
    """

    questions: int
    repeated: int

    def check(self) -> None:
        """Ask something small.

        Raises:
            JobError: it does not answer, or refuses us.
        """

    def studies(self, selection: Selection) -> Iterator[Study]:
        """All studies of a selection.

        Raises:
            JobError: the server failed, or does not answer any more.
        """

    def series(self, study: str, selection: Selection) -> list[Series]:
        """A study's series of a selection."""

    def instances(self, study: str, series: str) -> list[Instance]:
        """A series' instances."""

    def fetch(self, places: Iterable[Place], turn: Turn) -> Iterator[tuple[Place, bytes | ImageError]]:
        """Instances as DICOM files (PS3.10), in order, or why one could not be had; some are fetched ahead."""

    def changes(self, since: str, /) -> tuple[str, Mapping[str, str] | None]:
        """The server's mark of now, and the series (UID → its study's) that have changed since an earlier one.

        Both are empty of a server that has no such marks; the series are ``None`` if it cannot tell.
        """

    def close(self) -> None:
        """Leave the server."""


def connect(address: str | PacsAddress, access: Access, *, patient: bool = True) -> Pacs:
    """The server of an address; it is not asked anything yet.

    Args:
        address: of the server, or of anything in it.
        access: how it is spoken to.
        patient: wait for a server that is away, for :data:`PATIENCE_SECONDS`.

    Raises:
        SettingError: the address is none, a certificate cannot be used, or ``cbmir[pacs]`` is not installed.
    """
    parsed = parse_pacs(address) if isinstance(address, str) else address
    for library in ("pynetdicom", "retrying", "urllib3"):
        logging.getLogger(library).setLevel(logging.CRITICAL)  # their failures come to us as exceptions
    try:
        if parsed.scheme.startswith("dimse"):
            from model.pacs.dimse import Dimse

            return Dimse(parsed, access, patient=patient)
        from model.pacs.dicomweb import DicomWeb

        return DicomWeb(parsed, access, patient=patient)
    except ImportError as error:
        raise SettingError(f"what reads {parsed.scheme}:// is not installed: pip install 'cbmir[pacs]'") from error


def instance_uid(content: bytes) -> str:
    """SOP Instance UID of a DICOM file, of which no more is read; servers give one without a preamble as they got it.

    Raises:
        Exception: pydicom's, for what is no DICOM file.
    """
    from pydicom.filereader import read_partial

    def stop(tag: int, _representation: object, _length: object) -> bool:
        return tag > _SOP_INSTANCE_UID

    return str(read_partial(BytesIO(content), stop_when=stop, force=True).SOPInstanceUID)


def failed(address: PacsAddress, what: str) -> JobError:
    """A failure of a server, in one sentence."""
    return JobError(f"{address.root} {what}")
