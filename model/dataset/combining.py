"""Several labelled repositories as one manifest: one vocabulary, sources kept apart, licences looked at."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any, Final, Literal

import pandas as pd
import yaml

from model.dataset.tables import read_table, write_table
from model.errors import DatasetError, SettingError
from model.images.sources import is_local

COLUMNS: Final = ("path", "label", "group", "source", "modality", "licence", "split")
"""Columns of a combined manifest; ``path`` is relative to its folder, ``split`` is there if every part has one."""

Licences = Literal["all", "shippable"]
"""``shippable``: what may go into a model that is given away, as far as it is stated: no image whose licence forbids
derived works, and none of a competition."""

_NOT_SHIPPABLE: Final = re.compile(r"\bND\b|no ?deriv|competition", re.IGNORECASE)

VOCABULARIES: Final = "vocabularies"


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """Class names, and what else the same pictures are called.

    Attributes:
        body_parts: by class, the code of DICOM's Body Part Examined; empty where none fits.
        names: of each name in use the class.
        endings: by code of DICOM's Modality, the last word of a class's name.
    """

    body_parts: dict[str, str]
    names: dict[str, str]
    endings: dict[str, str]

    def class_of(self, label: str, region: str, modality: str) -> str | None:
        """The class of an image by its label, else by region and modality; ``None`` if it is of none."""
        ending = self.endings.get(modality.upper(), modality.lower())
        return self.names.get((label.strip() or f"{region.strip()}_{ending}").lower())


@dataclass(frozen=True, slots=True)
class Combined:
    """A combined manifest: images by class; and those left out, by why."""

    images: Counter[str]
    sources: int
    left_out: Counter[str]


def in_words_of(classes: Collection[str], labels: Iterable[str], vocabulary: str = "regions") -> dict[str, str]:
    """What a model's classes call the labels that are none of them, as ``brain_mr`` for ``brain_mri``.

    Empty where one of the labels is nothing that the vocabulary knows, or no class of the model: a half of an
    evaluation would say nothing.

    Raises:
        DatasetError: as :func:`read_vocabulary`.
    """
    others = sorted({label for label in labels if label not in classes})
    names = read_vocabulary(vocabulary).names if others else {}
    called = {label: names.get(label.lower(), "") for label in others}
    return called if set(called.values()) <= set(classes) else {}


@cache
def read_vocabulary(name: str) -> Vocabulary:
    """A vocabulary of the package by its name, or a YAML file like it.

    Raises:
        DatasetError: there is none, or it is damaged.
    """
    path = Path(name)
    if not path.is_file():
        path = Path(str(files("model.dataset") / VOCABULARIES / f"{name}.yaml"))
    try:
        values: dict[str, Any] = yaml.safe_load(path.read_text())
        classes = {label: about or {} for label, about in values["classes"].items()}
        names = {
            str(other).lower(): label for label, about in classes.items() for other in (label, *about.get("also", ()))
        }
        endings = {code: ending for ending, codes in values.get("endings", {}).items() for code in codes}
        return Vocabulary({label: about.get("body_part", "") for label, about in classes.items()}, names, endings)
    except FileNotFoundError as error:
        raise DatasetError(f"there is no vocabulary {name!r}: give regions, or a YAML file like it") from error
    except (OSError, ValueError, KeyError, TypeError, AttributeError, yaml.YAMLError) as error:
        raise DatasetError(f"{path} is no vocabulary: {error}") from error


def combine(
    manifests: list[Path],
    target: Path,
    *,
    vocabulary: str,
    licences: Licences = "all",
    leave_out: list[str] | None = None,
    keep_test: bool = False,
) -> Combined:
    """Write one manifest of several.

    A source is the manifest's column ``upstream``, else ``source``; where it has neither, each of its labels is one
    source, as a class of such a repository mostly comes from one place.

    Args:
        manifests: CSV files with ``path``, and ``label`` or ``region`` and ``modality``.
        target: the manifest to write.
        vocabulary: see :func:`read_vocabulary`.
        licences: which images may stay.
        leave_out: labels or sources that may not, as the manifests call them.
        keep_test: what a manifest calls its test part stays one; all that is of none is for training.

    Raises:
        DatasetError: a manifest cannot be read or lacks a column, or the target cannot be written.
        SettingError: two manifests lie in folders of one name, or nothing is left.
    """
    words = read_vocabulary(vocabulary)
    names = [manifest.absolute().parent.name for manifest in manifests]
    if twice := [name for name, count in Counter(names).items() if count > 1]:
        raise SettingError(f"two manifests lie in folders called {twice[0]!r}: their groups would be mixed up")
    parts, left_out = [], Counter[str]()
    for manifest, name in zip(manifests, names, strict=True):
        part, without = _part(manifest, name, target, words, licences, frozenset(leave_out or ()))
        parts.append(part)
        left_out += without
    table = pd.concat(parts, ignore_index=True).sort_values("path")
    if table.empty:
        reasons = "; ".join(f"{count:,} images: {why}" for why, count in left_out.most_common(5))
        raise SettingError(f"no image is left ({reasons})")
    if keep_test:
        table["split"] = table["split"].where(table["split"] == "test", "train")
    elif (table["split"] == "").any():
        table = table.drop(columns="split")
    write_table(table, target)
    return Combined(Counter(table["label"].tolist()), table["source"].nunique(), left_out)


def _part(
    manifest: Path, name: str, target: Path, words: Vocabulary, licences: Licences, unwanted: frozenset[str]
) -> tuple[pd.DataFrame, Counter[str]]:
    absent = f"{manifest} does not exist: give the CSV manifests of labelled repositories"
    table = read_table(manifest, ("path",), absent=absent, origin="a labelled repository")
    for column in ("label", "region", "modality", "group", "source", "upstream", "licence", "split"):
        if column not in table.columns:
            table[column] = ""
    rows, left_out = [], Counter[str]()
    for row in table.to_dict("records"):
        called = row["label"] or f"{row['region']} {row['modality']}"
        source = row["upstream"] or row["source"] or f"{name}/{called}"
        label = words.class_of(row["label"], row["region"], row["modality"])
        if {called, source} & unwanted:
            left_out[f"{called}: left out as asked"] += 1
        elif licences == "shippable" and _NOT_SHIPPABLE.search(row["licence"]):
            left_out[f"licence {row['licence']!r}"] += 1
        elif label is None:
            left_out[f"{called}: none of the classes"] += 1
        else:
            path = row["path"]
            if is_local(path):
                path = os.path.relpath(manifest.absolute().parent / path, target.absolute().parent)
            group = f"{name}/{row['group'] or row['path']}"
            rows.append((path, label, group, source, row["modality"], row["licence"], row["split"]))
    return pd.DataFrame(rows, columns=list(COLUMNS), dtype=str), left_out
