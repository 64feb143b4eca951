"""Tables of a dataset as CSV: its plan and its manifest, which people may edit."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from model.dataset.lock_file import writing
from model.errors import DatasetError
from model.files import written_whole


def read_table(path: Path, columns: Sequence[str], *, absent: str, origin: str) -> pd.DataFrame:
    """Read a CSV file as a table; every value is text, and absent ones are empty.

    Args:
        path: of the file.
        columns: names of the columns that it must have.
        absent: message of the error if there is no file.
        origin: the command that writes such a file.

    Raises:
        DatasetError: it is not there, cannot be read, or lacks a column.
    """
    try:
        table = pd.read_csv(path, dtype=str, keep_default_na=False)
    except FileNotFoundError as error:
        raise DatasetError(absent) from error
    except (OSError, ValueError) as error:
        raise DatasetError(f"{path} cannot be read as CSV: {error}") from error
    if missing := [name for name in columns if name not in table.columns]:
        raise DatasetError(f"{path} has no column {missing[0]!r}: it is not of '{origin}'")
    return table


def write_table(table: pd.DataFrame, path: Path) -> None:
    """Write atomically.

    Raises:
        DatasetError: it cannot be written.
        DiskFullError: the disk is full.
    """
    with writing(path), written_whole(path) as partial:
        table.to_csv(partial, index=False)
