"""Key Object Selections (PS3.3 A.35.4) of pictures, sent to a PACS: its viewers show what was found."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, field
from io import BytesIO

from pydicom import Dataset, dcmread
from pydicom.sr.codedict import codes
from pydicom.uid import generate_uid

from model.errors import ImageError, SettingError
from model.images.sources import open_source
from model.pacs.access import Access
from model.pacs.address import parse_entity

_NEEDED = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "SOPClassUID")

_MAY_BE_EMPTY = (
    *("PatientID", "PatientName", "PatientBirthDate", "PatientSex"),
    *("StudyDate", "StudyTime", "StudyID", "AccessionNumber", "ReferringPhysicianName"),
)
"""Of patient and study, of type 2: a selection has them (PS3.3 C.7.1.1 and C.7.2.1), where the picture has none."""


@dataclass(slots=True)
class Sent:
    """What was sent: documents, and the instances to which they refer; what could not be referred to, and why."""

    documents: int = 0
    instances: int = 0
    left_out: dict[str, str] = field(default_factory=dict)


def send_key_objects(addresses: list[str], entity: str, access: Access | None = None) -> Sent:
    """Send a selection for each study among some files; nothing else of them leaves this machine.

    Args:
        addresses: of the files, the most alike first; those that are no DICOM are left out.
        entity: of the PACS, as ``AET@HOST:PORT``, or ``dimse+tls://AET@HOST:PORT``.
        access: how it is spoken to; by default as the environment says.

    Raises:
        JobError: it does not answer, or refuses.
        SettingError: ``cbmir[pacs]`` is not installed.
    """
    try:
        from highdicom.ko import KeyObjectSelection, KeyObjectSelectionDocument

        from model.pacs.dimse import Dimse
    except ImportError as error:
        raise SettingError("what writes key objects is not installed: pip install 'cbmir[pacs]'") from error

    sent = Sent()
    studies: dict[str, list[Dataset]] = {}
    for address in addresses:
        try:
            header = _header(address)
        except ImageError as error:
            sent.left_out[address] = error.detail
            continue
        except Exception as error:  # pydicom raises many kinds for what is no DICOM, or a damaged one
            sent.left_out[address] = f"no DICOM file that can be read ({type(error).__name__})"
            continue
        if lacking := [name for name in _NEEDED if not header.get(name)]:
            sent.left_out[address] = f"it has no {lacking[0]}"
            continue
        studies.setdefault(str(header.StudyInstanceUID), []).append(header)
    pacs = Dimse(parse_entity(entity), access or Access.from_environment(), patient=False)
    for headers in studies.values():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # they have the patient's name in them
            content = KeyObjectSelection(codes.DCM.OfInterest, headers, description="similar pictures, found by cbmir")
            document = KeyObjectSelectionDocument(headers, content, generate_uid(), 1, generate_uid(), 1, "cbmir")
        pacs.store(document)
        sent.documents += 1
        sent.instances += len(headers)
    return sent


def _header(address: str) -> Dataset:
    with open_source(address, lambda start: start[128:132] == b"DICM") as source:
        content = source.path if source.content is None else BytesIO(source.content)
        header = dcmread(content, stop_before_pixels=True)
    for name in _MAY_BE_EMPTY:
        if name not in header:
            setattr(header, name, "")
    return header
