"""A walk that was cut short, by whatever, removes nothing: every way to cut it, with every way to remove."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from index.opening import open_index
from index.roots import Root
from model.errors import CbmirError, JobError, JobInterrupted, SettingError
from tests.support.jobs import small_job
from workers.indexing.discovery import discover
from workers.indexing.job import index_archive
from workers.indexing.planning import Plan, plan_files
from workers.indexing.reembedding import reembed
from workers.indexing.settings import JobObserver, JobSettings, Progress

Job = Callable[[JobSettings, JobObserver], Any]
JOBS = pytest.mark.parametrize("job", [index_archive, reembed], ids=["index --prune", "--reembed --prune"])


@pytest.fixture
def settings(archive: Path, model_path: Path, tmp_path: Path, without_ray: None) -> JobSettings:
    """Two archives, indexed; then the first is empty, as one that is not mounted, and the second has a new file."""
    for organ in ("eye", "chest"):
        shutil.copytree(archive / organ, tmp_path / organ)
    made = small_job((tmp_path / "eye", tmp_path / "chest"), model_path, tmp_path / "index")
    index_archive(made)
    shutil.copy(archive / "knee" / "knee-000.dcm", tmp_path / "chest" / "new.dcm")
    return replace(made, prune=True)


def points(settings: JobSettings) -> int:
    with open_index(settings.index, purpose="test") as index:
        return index.count()


def unmount(folder: Path) -> None:
    for path in folder.iterdir():
        path.unlink()


@JOBS
def test_an_archive_that_is_not_mounted(settings: JobSettings, job: Job, tmp_path: Path) -> None:
    unmount(tmp_path / "eye")
    for limit in (1, 2, 50):
        with pytest.raises(SettingError, match="exclude each other"):
            job(replace(settings, limit=limit), JobObserver())
    with pytest.raises(JobError, match=r"is it mounted|is it named, and mounted"):
        job(settings, JobObserver())
    assert points(settings) in {8, 9}  # the new one may have come


@JOBS
def test_a_directory_that_cannot_be_read(
    settings: JobSettings, job: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scandir = os.scandir

    def denied(path: str) -> Any:
        if str(path) == str(tmp_path / "eye"):
            raise PermissionError(13, "Permission denied", path)
        return scandir(path)

    monkeypatch.setattr("os.scandir", denied)
    # A job over an index that has them keeps them and ends well; a new index cannot take the place of the old one.
    refused = nullcontext() if job is index_archive else pytest.raises(JobError, match="Permission denied")
    with refused:
        job(settings, JobObserver())
    assert points(settings) in {8, 9}


@JOBS
def test_a_walk_that_fails(settings: JobSettings, job: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(root: Root, *_: object) -> Any:
        if root.address == str(tmp_path / "chest"):
            raise JobError("the share is gone")
        return discover(root)

    for path in list((tmp_path / "eye").iterdir())[:3]:
        path.unlink()
    monkeypatch.setattr("workers.indexing.planning.discover", fails)
    with pytest.raises(CbmirError, match="the share is gone"):
        job(settings, JobObserver())
    assert points(settings) == 8


@JOBS
def test_ctrl_c(settings: JobSettings, job: Job, tmp_path: Path) -> None:
    class Impatient(JobObserver):
        def progress(self, progress: Progress) -> None:
            if progress.stage == "starting":
                raise KeyboardInterrupt

    for path in list((tmp_path / "eye").iterdir())[:3]:
        path.unlink()
    with pytest.raises(JobInterrupted):
        job(settings, Impatient())
    assert points(settings) == 8


def test_a_plan_knows_what_is_gone_only_at_the_end_of_its_walk(tmp_path: Path) -> None:
    for number in range(3):
        (tmp_path / str(number)).write_text("x")
    plan = Plan()
    walk = plan_files([Root(0, str(tmp_path))], None, plan)
    for _ in range(3):
        next(walk)
        assert plan.gone is None
    assert next(walk, None) is None
    assert plan.finished
    limited = Plan()
    assert len(list(plan_files([Root(0, str(tmp_path))], None, limited, limit=2))) == 2
    assert (limited.gone, limited.limited, limited.total) == (None, True, 2)
