"""The folder of a dataset: its manifest, and images that are added by hand."""

from __future__ import annotations

import filecmp
import secrets
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pandas as pd
import pydicom

from model.dataset.lock_file import LockedInstance, writing
from model.dataset.plan import patient_group
from model.dataset.series_queries import require_class_name
from model.dataset.tables import read_table, write_table
from model.errors import DatasetError, ImageError
from model.files import written_whole
from model.images.reading import ReadOptions, read_frames

MANIFEST: Final = "manifest.csv"

COLUMNS: Final = ("path", "label", "group", "split", "patient", "series", "licence", "doi")
"""Columns of the manifest.

``patient`` is a hash, or the image's own path where no patient is known; ``group`` the same, until a split joins groups
by near-duplicates. ``series``, ``licence`` and ``doi`` are empty for images that were added by hand.
"""

PATIENT_KEY: Final = ".patient-key"

KEY_BYTES: Final = 32

Row = Mapping[str, str]


def row_of(one: LockedInstance) -> Row:
    """The manifest's row of a fetched instance."""
    return {
        "path": one.path,
        "label": one.label,
        "patient": one.group,
        "series": one.series,
        "licence": one.licence,
        "doi": one.doi,
    }


def read_rows(folder: Path) -> pd.DataFrame:
    """Read the manifest as a table; every value is text, and absent ones are empty.

    Raises:
        DatasetError: there is none, or it cannot be read.
    """
    absent = f"{folder} holds no {MANIFEST}: fetch or add images first"
    return read_table(folder / MANIFEST, COLUMNS, absent=absent, origin="cbmir dataset fetch")


def add_rows(folder: Path, rows: Iterable[Row]) -> bool:
    """Add files to the manifest; what it says of a file that is in it already is replaced.

    A manifest that gains a file loses its splits: they were made without it. Returns whether it had any.
    """
    new = pd.DataFrame([{name: row.get(name, "") for name in COLUMNS} for row in rows], columns=list(COLUMNS))
    known = read_rows(folder) if (folder / MANIFEST).exists() else pd.DataFrame(columns=list(COLUMNS))
    for name in ("split", "group"):
        before = dict(zip(known["path"], known[name], strict=True))
        new[name] = [before.get(path, "") for path in new["path"]]
    new["group"] = new["group"].where(new["group"] != "", new["patient"])
    table = pd.concat([known[~known["path"].isin(new["path"])], new], ignore_index=True).sort_values("path")
    unsplit = bool((table["split"] == "").any() and (table["split"] != "").any())
    if unsplit:
        table["split"] = ""
    write_table(table, folder / MANIFEST)
    return unsplit


def _patient_key(folder: Path) -> bytes:
    """The key by which the folder's groups are made of Patient IDs, which nobody without it can guess back."""
    path = folder / PATIENT_KEY
    with writing(path):
        if not path.exists():
            folder.mkdir(parents=True, exist_ok=True)
            with written_whole(path, private=True) as partial:
                partial.write_bytes(secrets.token_bytes(KEY_BYTES))
        key = path.read_bytes()
    if len(key) != KEY_BYTES:
        raise DatasetError(f"{path} is damaged: delete it, and add every class again, as groups depend on it")
    return key


def _public_group(path: Path) -> str | None:
    """The group that fetched images of the same patient have."""
    try:
        header = pydicom.dcmread(path, stop_before_pixels=True, specific_tags=["PatientID"], force=True)
        return patient_group(str(header.get("PatientID") or ""))
    except (pydicom.errors.InvalidDicomError, OSError, ValueError):  # packed files are read by other means
        return None


@dataclass(frozen=True, slots=True)
class Added:
    """Files that were added to a class, and those that are no readable images (path → why).

    ``unsplit`` says that the dataset had a split, which was made without them and is gone.
    """

    files: int
    left_out: dict[str, str]
    unsplit: bool


def add_class(folder: Path, label: str, source: Path) -> Added:
    """Copy the images below a folder into a dataset as one class.

    Images of one patient, where DICOM names one, are one group, also with those of that patient that were fetched; any
    other image is a group of its own. The files stay as they are, names of patients included.

    Raises:
        DatasetError: the source does not exist or holds no image, or a file cannot be copied.
    """
    if not source.is_dir():
        raise DatasetError(f"{source} is no folder: give the folder with the images of class {label!r}")
    require_class_name(label)
    if source.resolve().is_relative_to(folder.resolve()) or folder.resolve().is_relative_to(source.resolve()):
        raise DatasetError(f"{source} is a part of {folder}, or the other way round: give a folder elsewhere")
    fetched = set(read_rows(folder)["patient"]) if (folder / MANIFEST).exists() else set()
    rows: list[Row] = []
    left_out: dict[str, str] = {}
    key = _patient_key(folder)
    for path in sorted(one for one in source.rglob("*") if one.is_file() and not one.name.startswith(".")):
        try:
            first = next(read_frames(path, 1, ReadOptions(key)))
        except ImageError as error:
            left_out[str(path)] = str(error)
            continue
        relative = Path(label, path.relative_to(source))
        target = folder / relative
        if target.exists() and not filecmp.cmp(path, target, shallow=False):
            raise DatasetError(f"{target} is another image than {path}: rename the one to be added")
        with writing(target):
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target)
        group = first.header.patient_group or f"{label}/{path.relative_to(source)}"
        if first.header.patient_group and (public := _public_group(path)) and public in fetched:
            group = public
        rows.append({"path": relative.as_posix(), "label": label, "patient": group})
    if not rows:
        raise DatasetError(f"{source} holds no image that can be read")
    return Added(len(rows), left_out, unsplit=add_rows(folder, rows))
