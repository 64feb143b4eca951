"""Classes as queries for series: files that a person can read and edit."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Final

import yaml

from model.errors import DatasetError

FOLDER: Final = Path(__file__).parent / "classes"


@dataclass(frozen=True, slots=True)
class SeriesQuery:
    """Which series belong to a class; an empty field sets no condition.

    Attributes:
        collections: of the archive; at least one.
        modalities: DICOM Modality.
        body_parts: DICOM Body Part Examined.
        sop_classes: names of DICOM SOP classes.
        described: parts of the series description, one of which must be in it.
        leave_out: parts of the series description, none of which may be in it as a word of its own.
        licences: that are allowed, by name ("CC BY-NC 3.0") or family ("CC BY-NC"); by default those that ask for
            attribution only.
        least_instances, most_instances: how long the series may be.
    """

    collections: tuple[str, ...]
    modalities: tuple[str, ...] = ()
    body_parts: tuple[str, ...] = ()
    sop_classes: tuple[str, ...] = ()
    described: tuple[str, ...] = ()
    leave_out: tuple[str, ...] = ()
    licences: tuple[str, ...] = ()
    least_instances: int = 1
    most_instances: int = 2**31


Classes = Mapping[str, tuple[SeriesQuery, ...]]
"""Class name → queries, of which one must hold."""


def known_queries() -> dict[str, Path]:
    """The files that come with the program, by name."""
    return {path.stem: path for path in sorted(FOLDER.glob("*.yaml"))}


def read_queries(name: str) -> Classes:
    """Read classes from a file, or from one that comes with the program.

    Raises:
        DatasetError: there is no such file, or something in it is not understood.
    """
    path = known_queries().get(name, Path(name))
    try:
        text = path.read_text(encoding="utf-8")
        _refuse_repeated_names(path, yaml.compose(text, yaml.SafeLoader))
        values = yaml.safe_load(text)
    except FileNotFoundError as error:
        known = ", ".join(known_queries())
        raise DatasetError(f"{name} does not exist: give a YAML file of classes, or one of {known}") from error
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise DatasetError(f"{path} cannot be read as YAML: {error}") from error
    if not isinstance(values, dict) or not isinstance(values.get("classes"), dict) or not values["classes"]:
        raise DatasetError(f"{path} holds no classes: see {FOLDER / 'paper24.yaml'}")
    if unknown := sorted(map(str, set(values) - {"description", "defaults", "classes"})):
        raise DatasetError(f"{path}: {unknown[0]!r} is none of description, defaults, classes")
    defaults = values.get("defaults") or {}
    classes: dict[str, tuple[SeriesQuery, ...]] = {}
    for label, asked in values["classes"].items():
        if not isinstance(label, str):
            raise DatasetError(f"{path}: YAML takes a class's name for {label!r}: put it in quotes")
        require_class_name(label)
        queries = asked if isinstance(asked, list) else [asked]
        classes[label] = tuple(_query(path, label, defaults, one) for one in queries or [None])
    return classes


def _refuse_repeated_names(path: Path, node: Any) -> None:
    """YAML itself would silently take the last of two."""
    kind = getattr(node, "id", "")
    if kind == "mapping":
        names = [name.value for name, _ in node.value]
        if repeated := [name for name in names if names.count(name) > 1]:
            raise DatasetError(f"{path} has {repeated[0]!r} twice: take one of them out")
    for below in node.value if kind in {"mapping", "sequence"} else ():
        _refuse_repeated_names(path, below[1] if kind == "mapping" else below)


def require_class_name(label: str) -> None:
    """Refuse what cannot be the name of a class, which becomes a folder.

    Raises:
        DatasetError: it is empty, hidden, or a path.
    """
    if not label or Path(label).name != label or label.startswith(".") or "\\" in label:
        raise DatasetError(f"{label!r} is no name for a class: it becomes a folder")


def _query(path: Path, label: str, defaults: Any, asked: Any) -> SeriesQuery:
    if not isinstance(asked, dict) or not isinstance(defaults, dict):
        raise DatasetError(f"{path}, class {label!r}: expected lines like 'collections: [tcga_lihc]'")
    given = {**defaults, **asked}
    types = {field.name: field.type for field in fields(SeriesQuery)}
    if unknown := sorted(set(given) - set(types)):
        raise DatasetError(f"{path}, class {label!r}: {unknown[0]!r} is none of {', '.join(types)}")
    if not given.get("collections"):
        raise DatasetError(f"{path}, class {label!r}: no collections are named")
    values: dict[str, Any] = {}
    for name, value in given.items():
        if types[name] == "int":
            if not isinstance(value, int) or isinstance(value, bool):
                raise DatasetError(f"{path}, class {label!r}: {name} must be a number, not {value!r}")
            values[name] = value
        elif isinstance(value, list) and all(isinstance(one, str) for one in value):
            values[name] = tuple(value)
        else:
            raise DatasetError(f"{path}, class {label!r}: {name} must be a list of names, not {value!r}")
    return SeriesQuery(**values)
