"""Modalities in groups whose pictures are of one kind, and those that a class's name tells.

Codes are the defined terms of DICOM's Modality (0008,0060), PS3.3 C.7.3.1.1.1, with those of earlier editions and XR,
which is no term, but found in files.
"""

from __future__ import annotations

import re
from typing import Final

GROUPS: Final = (
    ("CT",),
    ("MR", "MA", "MS"),
    ("US", "IVUS", "DD", "EC"),
    ("CR", "DX", "RG", "XR", "MG", "IO", "PX"),
    ("XA", "RF", "DF", "CF", "DS", "VF"),
    ("PT", "NM", "ST"),
    ("GM", "SM"),
    ("ES", "CP", "LP"),
    ("XC", "DMS"),
    ("OP", "OPT", "OCT", "FA"),
)
"""Films, plates and mammograms, all projections by X-rays, are one kind; angiography and fluoroscopy are, and so on."""

_GROUP_OF: Final = {code: group for group in GROUPS for code in group}

_WORDS: Final = {
    "CT": ("ct",),
    "MR": ("mr", "mri"),
    "US": ("us", "ultrasound", "sonography", "echocardiography"),
    "CR": ("xr", "xray", "radiograph", "radiography", "cr", "dx"),
    "MG": ("mg", "mammography", "mammogram"),
    "XA": ("xa", "angiography", "fluoroscopy", "rf"),
    "PT": ("pet", "pt"),
    "NM": ("nm", "spect", "scintigraphy", "scan"),
    "SM": ("histology", "cytology", "smear", "cells"),
    "ES": ("endoscopy", "colonoscopy", "gastroscopy", "laparoscopy", "bronchoscopy"),
    "XC": ("dermoscopy", "photo"),
    "OP": ("fundus", "oct"),
}
_MODALITY_OF_WORD: Final = {word: code for code, words in _WORDS.items() for word in words}


def modality_group(modality: str | None) -> tuple[str, ...]:
    """The codes whose pictures are of the same kind; empty where the code says nothing of that, as OT does."""
    return _GROUP_OF.get((modality or "").strip().upper(), ())


def class_groups(name: str) -> frozenset[tuple[str, ...]]:
    """The groups that the words of a class's name tell: of ``chest_ct`` one, of ``ct_angiography`` two, or none."""
    words = re.split(r"[_\W]+", name.lower())
    return frozenset(modality_group(_MODALITY_OF_WORD[word]) for word in words if word in _MODALITY_OF_WORD)


def contradicts(name: str, modality: str | None) -> bool:
    """Whether a picture of that modality cannot be of the class, whose name tells others only."""
    told, stated = class_groups(name), modality_group(modality)
    return bool(told and stated and stated not in told)
