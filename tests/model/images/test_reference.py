from __future__ import annotations

from pathlib import Path

import pytest

from tests.model.images.reference import SETS, expected, read_set


@pytest.mark.parametrize("name", ["pydicom", "pydicom-data"])
def test_every_file_of_other_software_is_read_or_left_out_as_reviewed(name: str) -> None:
    assert list(read_set(name)) == expected(name)


@pytest.mark.parametrize("name", ["shared", "scanners", "cases"])
def test_every_shared_file_is_read_or_left_out_as_reviewed(shared_data: Path, name: str) -> None:
    assert SETS[name].is_relative_to(shared_data.parent)
    assert list(read_set(name)) == expected(name)
