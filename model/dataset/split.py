"""The split of a dataset: by patient, near-duplicates together."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from model.dataset.duplicates import Pair, find_pairs
from model.dataset.manifest import MANIFEST, read_rows
from model.dataset.tables import write_table
from model.errors import DatasetError, SettingError
from model.training.repository import LabelledFile, read_repository, split_test


@dataclass(frozen=True, slots=True)
class SplitReport:
    """Images by part, and pairs of near-duplicates of different groups, by path; such groups are on one side."""

    images: dict[str, int]
    pairs: tuple[tuple[str, str], ...]


def split_dataset(
    folder: Path,
    *,
    test: float,
    seed: int,
    duplicates: bool = True,
    workers: int = 1,
    progress: Callable[[int, int], None] | None = None,
) -> SplitReport:
    """Give every image of a dataset its part, anew, and write it into the manifest.

    Args:
        folder: of the dataset.
        test: share of the images to be held out.
        seed: of the choice.
        duplicates: whether to look for near-duplicates.
        workers: processes that read images for that.
        progress: told of files read and of their number.

    Raises:
        DatasetError: the folder has no manifest.
        RepositoryError: it has only one class, or a class all of whose images are of one patient.
        SettingError: the share is not between 0 and 1.
    """
    if not 0 < test < 1:
        raise SettingError(f"a test part of {test} makes no sense: give a share between 0 and 1")
    table = read_rows(folder)
    if missing := [path for path in table["path"] if not (folder / path).is_file()]:
        raise DatasetError(f"{folder / missing[0]} is gone, with {len(missing) - 1} others: fetch or add them again")
    patients = {
        folder.absolute() / path: patient for path, patient in zip(table["path"], table["patient"], strict=True)
    }
    files = [replace(file, split=None, group=patients[file.path]) for file in read_repository(folder / MANIFEST)]
    found = find_pairs([file.path for file in files], workers=workers, progress=progress) if duplicates else []
    pairs = [pair for pair in found if files[pair.first].group != files[pair.second].group]
    split = split_test(_joined(files, pairs), seed=seed, share=test)
    parts = {file.path: file.split or "" for file in split}
    groups = {file.path: file.group for file in split}
    table["split"] = [parts[folder.absolute() / path] for path in table["path"]]
    table["group"] = [groups[folder.absolute() / path] for path in table["path"]]
    write_table(table, folder / MANIFEST)
    names = [(_name(folder, files[pair.first]), _name(folder, files[pair.second])) for pair in pairs]
    return SplitReport(dict(Counter(parts.values())), tuple(names))


def _joined(files: Sequence[LabelledFile], pairs: Sequence[Pair]) -> list[LabelledFile]:
    """Groups that share near-duplicates become one."""
    names, groups = np.unique([file.group for file in files], return_inverse=True)
    ends = groups[[[pair.first for pair in pairs], [pair.second for pair in pairs]]] if pairs else np.empty((2, 0), int)
    graph = coo_array((np.ones(ends.shape[1]), (ends[0], ends[1])), shape=(len(names), len(names)))
    _, components = connected_components(graph, directed=False)
    first = dict(reversed(list(zip(components.tolist(), names, strict=True))))
    return [
        replace(file, group=str(first[components[group]])) for file, group in zip(files, groups.tolist(), strict=True)
    ]


def _name(folder: Path, file: LabelledFile) -> str:
    return file.path.relative_to(folder.absolute()).as_posix()
