"""Labelled repositories: one folder a class, or a manifest; and their stratified splits."""

from __future__ import annotations

import hashlib
import os
import warnings
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from model.errors import RepositoryError, SettingError

Split = Literal["train", "validation", "test"]

TEST_SHARE = 0.3
"""Share of the images that is held out for the test (paper section 4.1)."""

VALIDATION_SHARE = 0.1
"""Share of the training images by which the best epoch is chosen, so that the test images choose nothing."""

_SPLITTING_FOLDS, _MOST_FOLDS = 10, 100


@dataclass(frozen=True, slots=True)
class LabelledFile:
    """One file of a labelled repository.

    Attributes:
        path: absolute path.
        label: organ class.
        group: files of one group (a patient, a video) never fall on both sides of a split; the path if unknown.
        split: the part that the file belongs to; ``None`` where the manifest does not say.
        source: what the file comes from, such as a hospital or a data set; empty where the manifest does not say.
        series: of which it is a slice, within its group; empty where the manifest does not say.
    """

    path: Path
    label: str
    group: str
    split: Split | None = None
    source: str = ""
    series: str = ""


def read_repository(source: Path) -> list[LabelledFile]:
    """Read a repository from one folder a class, or from a CSV or Parquet manifest.

    A manifest has the columns ``path`` (relative to the manifest's folder, or absolute) and ``label``, and may have
    ``split`` (train, validation or test), ``group``, ``series``, which stands for a group where there is none, and
    ``upstream`` or ``source``. Files are ordered by path, so that a seed means the same split everywhere.

    Raises:
        RepositoryError: nothing is there, a column is missing, or there is only one class.
    """
    source = source.absolute()
    if source.is_dir():
        files = _read_folders(source)
    elif source.is_file():
        files = read_manifest(source)
    else:
        raise RepositoryError(f"{source} does not exist: give a folder with one folder a class, or a manifest")
    if not files:
        raise RepositoryError(f"{source} holds no files: expected one folder a class, with images in each")
    sizes = Counter(file.label for file in files)
    if len(sizes) < 2:
        raise RepositoryError(f"{source} holds only the class {next(iter(sizes))!r}: at least two are needed")
    return sorted(files, key=lambda file: file.path)


def split_repository(
    files: Sequence[LabelledFile], *, seed: int, validation: float = VALIDATION_SHARE
) -> list[LabelledFile]:
    """Give every file its split: the manifest's where it has one, else a stratified one by group.

    30 % of a repository without splits become the test; the share ``validation`` of the training files becomes the
    validation part, unless the manifest names one.

    Raises:
        RepositoryError: some files have a split and others none, a file or a group stands on both sides, or a class
            is missing from the training part.
        SettingError: the share is not at least 0 and below 1.
    """
    split = split_test(files, seed=seed)
    if not 0 <= validation < 1:
        raise SettingError(f"{validation} of the training images cannot be set aside: give a share from 0 to below 1")
    if validation and not any(file.split == "validation" for file in split):
        training = _assign([f for f in split if f.split != "test"], "validation", validation, seed)
        split = sorted(training + [f for f in split if f.split == "test"], key=lambda file: file.path)
    trained = {file.label for file in split if file.split == "train"}
    if missing := sorted({file.label for file in split} - trained):
        raise RepositoryError(f"class {missing[0]!r} has no training image: add images or change its groups and split")
    return split


def split_test(files: Sequence[LabelledFile], *, seed: int, share: float = TEST_SHARE) -> list[LabelledFile]:
    """Give every file its split as :func:`split_repository` does, but set no validation part aside.

    A part may lack a class.

    Raises:
        RepositoryError: some files have a split and others none, a file or a group stands on both sides, or a class
            cannot be split.
    """
    given = [file.split is not None for file in files]
    if any(given) and not all(given):
        raise RepositoryError(f"{files[given.index(False)].path} has no split while others have: give all or none")
    split = list(files) if all(given) else _assign(files, "test", share, seed)
    _refuse_leakage(split)
    return split


def listing_hash(files: Sequence[LabelledFile]) -> str:
    """32 hexadecimal digits over what was trained and what was held out, wherever the repository lies."""
    common = os.path.commonpath([file.path for file in files])
    lines = sorted(f"{os.path.relpath(f.path, common)}\t{f.label}\t{f.split == 'test'}" for f in files)
    return hashlib.sha256("\n".join(lines).encode(errors="surrogateescape")).hexdigest()[:32]


def folds_by_group(files: Sequence[LabelledFile], folds: int, *, seed: int) -> list[set[int]]:
    """Positions of the files of each fold, stratified by label, whole groups at a time.

    Raises:
        SettingError: there are fewer groups than folds, or fewer than two folds.
        RepositoryError: a class is in one fold only, so that the training without it would lack it.
    """
    from sklearn.model_selection import StratifiedGroupKFold

    groups = [file.group for file in files]
    most = min(len(set(groups)), max(Counter(file.label for file in files).values()))
    if not 2 <= folds <= most:
        raise SettingError(
            f"{folds} folds cannot be made of so few groups and images of a class: give from 2 to {most}"
        )
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The least populated class")  # its images are then in few folds
        splitter = StratifiedGroupKFold(folds, shuffle=True, random_state=seed)
        parts = list(splitter.split(files, [file.label for file in files], groups))
    everything = {file.label for file in files}
    for training, _ in parts:
        if missing := everything - {files[number].label for number in training}:
            raise RepositoryError(f"class {min(missing)!r} would be in one fold alone: it needs images of more groups")
    return [set(held_out.tolist()) for _, held_out in parts]


def _read_folders(folder: Path) -> list[LabelledFile]:
    return [
        LabelledFile(path, label.name, group=str(path))
        for label in sorted(folder.iterdir())
        if label.is_dir() and not label.name.startswith(".")
        for path in label.rglob("*")
        if path.is_file() and not path.name.startswith(".")
    ]


def read_manifest(manifest: Path) -> list[LabelledFile]:
    """Read a CSV or Parquet manifest; see :func:`read_repository`.

    Raises:
        RepositoryError: it cannot be read, lacks a column, or has an empty or unknown value.
    """
    import pandas as pd

    try:
        if manifest.suffix.lower() in {".parquet", ".pq"}:
            table = pd.read_parquet(manifest).astype(object)
        else:
            with warnings.catch_warnings():
                warnings.simplefilter("error", pd.errors.ParserWarning)  # a row with more fields than the header
                table = pd.read_csv(manifest, dtype=str, keep_default_na=False, index_col=False)
            table = table.rename(columns=str.strip).map(str.strip).astype(object).replace("", None)
    except pd.errors.ParserWarning as error:
        raise RepositoryError(
            f"{manifest} has rows with more fields than its header: quote commas inside one"
        ) from error
    except Exception as error:  # pandas and its readers raise many kinds
        raise RepositoryError(f"{manifest} cannot be read as a CSV or Parquet manifest: {error}") from error
    if missing := {"path", "label"} - set(table.columns):
        raise RepositoryError(f"{manifest} has no column {min(missing)!r}: it needs path and label")
    table = table.where(table.notna(), None)
    files = []
    for number, row in enumerate(table.to_dict("records"), 2):
        if row["path"] is None or row["label"] is None:
            raise RepositoryError(f"{manifest}, line {number}: path or label is empty")
        if (split := row.get("split")) not in (None, "train", "validation", "test"):
            raise RepositoryError(f"{manifest}, line {number}: split {split!r} is none of train, validation, test")
        path, group = _path_of(manifest, str(row["path"])), row.get("group") or row.get("series")
        source = str(row.get("upstream") or row.get("source") or "")
        files.append(
            LabelledFile(
                path,
                str(row["label"]),
                str(path if group is None else group),
                split,
                source,
                str(row.get("series") or ""),
            )
        )
    _refuse_contradictions(manifest, files)
    return files


def _path_of(manifest: Path, written: str) -> Path:
    """A path of a manifest, relative to its folder; one that was written on Windows has backslashes."""
    path = manifest.parent / written
    if "\\" in written and not path.exists():
        return manifest.parent / written.replace("\\", "/")
    return path


def _refuse_contradictions(manifest: Path, files: Iterable[LabelledFile]) -> None:
    labels: dict[Path, str] = {}
    for file in files:
        if labels.setdefault(file.path, file.label) != file.label:
            raise RepositoryError(
                f"{manifest} calls {file.path} both {labels[file.path]!r} and {file.label!r}: give it one label"
            )


def _assign(files: Sequence[LabelledFile], part: Split, share: float, seed: int) -> list[LabelledFile]:
    """Move about ``share`` of the files to ``part``, stratified by label, whole groups at a time; others train.

    Every class keeps a group in training, and has one in the test, however small it is.
    """
    from sklearn.model_selection import StratifiedGroupKFold

    groups = [file.group for file in files]
    sizes = Counter(file.label for file in files)
    folds = min(_folds_for(share), len(set(groups)), max(sizes.values()))
    chosen: set[str] = set()
    if folds > 1:
        splitter = StratifiedGroupKFold(folds, shuffle=True, random_state=seed)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "The least populated class")  # which is looked after below
            parts = list(splitter.split(files, [file.label for file in files], groups))
        for _, fold in parts[: max(1, round(share * folds))]:
            chosen.update(groups[number] for number in fold)
    groups_of: dict[str, set[str]] = defaultdict(set)
    for file in files:
        groups_of[file.label].add(file.group)
    for label, of_label in sorted(groups_of.items()):
        if part == "test" and len(of_label) < 2:
            few = "class {!r} has one image" if sizes[label] == 1 else "all images of class {!r} are of one group"
            raise RepositoryError(f"{few.format(label)}: it cannot be split into training and test")
        if of_label <= chosen:
            chosen.discard(min(of_label))
        if part == "test" and not of_label & chosen:
            chosen.add(max(of_label))
    return [replace(file, split=part if file.group in chosen else "train") for file in files]


def _folds_for(share: float) -> int:
    """The number of folds, ten if that will do, of which some are that share of all, or nearly so."""
    numbers = (_SPLITTING_FOLDS, *range(2, _MOST_FOLDS + 1))
    return next((n for n in numbers if abs(max(1, round(share * n)) / n - share) <= min(0.01, share / 10)), _MOST_FOLDS)


def _refuse_leakage(files: Iterable[LabelledFile]) -> None:
    sides: dict[str, bool] = {}
    for file in files:
        test = file.split == "test"
        for name, side in (("file", os.path.realpath(file.path)), ("group", file.group)):
            if sides.setdefault(f"{name} {side!r}", test) != test:
                raise RepositoryError(f"{name} {side!r} is in the training and in the test part: give it one split")
