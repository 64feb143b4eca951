from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.index.upkeep.test_upgrade import as_of_earlier
from tests.support.in_process import jobs_in_process
from tests.support.jobs import small_job
from tests.support.volumes import make_body, write_series
from workers.indexing.job import index_archive


@pytest.fixture
def earlier(tmp_path: Path, model_path: Path) -> Path:
    """An index of 25 slices, without what they say of their places."""
    write_series(tmp_path / "archive", make_body(0, 0), "one", slices=25, side=16)
    with jobs_in_process():
        index_archive(small_job((tmp_path / "archive",), model_path, tmp_path / "index"))
    as_of_earlier(tmp_path / "index")
    return tmp_path / "index"


def test_an_index_is_upgraded(cbmir: Callable[..., int], earlier: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cbmir("upgrade", "--index", earlier) == 0
    assert "25 points know their place now, the headers of 25 files were read" in capsys.readouterr().out


def test_of_an_archive_that_has_gone_not_every_file_is_named(
    cbmir: Callable[..., int], earlier: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.rmtree(earlier.parent / "archive")
    assert cbmir("upgrade", "--index", earlier) == 3
    told = capsys.readouterr().err
    assert told.count("No such file or directory") == 20
    assert "5 files more: is the archive where it was?" in told
