from __future__ import annotations

import os
import shutil
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from index.address import parse_address
from index.completeness import unfinished_archives
from index.ledger import Ledger
from index.opening import open_index
from model.errors import JobError, SettingError
from tests.support.jobs import small_job
from workers.indexing.job import index_archive
from workers.indexing.preparing import plan_job
from workers.indexing.settings import JobSettings, Privacy

pytestmark = pytest.mark.usefixtures("without_ray")


@pytest.fixture
def settings(archive: Path, model_path: Path, tmp_path: Path) -> JobSettings:
    for organ in ("eye", "knee"):
        shutil.copytree(archive / organ, tmp_path / "old" / organ)
    made = small_job((tmp_path / "old",), model_path, tmp_path / "index")
    index_archive(made)
    return made


def states(index: Path) -> dict[str, int]:
    with closing(Ledger(index, read_only=True)) as ledger:
        return ledger.counts()


@pytest.mark.parametrize("privacy", ["plain", "hash"])
def test_a_moved_archive_is_the_same_archive(
    settings: JobSettings, tmp_path: Path, privacy: str, model_path: Path
) -> None:
    if privacy == "hash":
        settings = replace(settings, index=parse_address(tmp_path / "hashed"), privacy=Privacy(paths="hash"))
        index_archive(settings)
    index = settings.index.home
    old, new = tmp_path / "old", tmp_path / "new"
    old.rename(new)
    moved = replace(settings, archives=(new,), moved_from=str(old))
    plan = plan_job(moved)
    assert (plan.pending, plan.unchanged, plan.finished) == (0, 9, True)
    report = index_archive(moved)
    assert (report.files_moved, report.points, report.files_unchanged, report.files_missing) == (9, 0, 9, 0)
    with open_index(parse_address(index), purpose="test") as opened:
        assert opened.description.roots == (str(new),)
        assert opened.count() == 8
    assert index_archive(moved).files_moved == 0  # the same command goes on
    with closing(Ledger(index)) as ledger:
        assert unfinished_archives(ledger, (str(new),), held=False) == {}


def test_what_is_no_move_is_refused(settings: JobSettings, tmp_path: Path) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    shutil.copytree(old, new)
    moved = replace(settings, archives=(new,), moved_from=str(old))
    for job in (plan_job, index_archive):
        with pytest.raises(SettingError, match=r"is still there, so that .* is a copy"):
            job(moved)
    shutil.rmtree(old)
    with pytest.raises(SettingError, match="no archive of this index: it has"):
        index_archive(replace(moved, moved_from=str(tmp_path / "elsewhere")))
    with pytest.raises(SettingError, match="needs one ARCHIVE"):
        index_archive(replace(moved, archives=(new, tmp_path)))
    # Two pictures that have changed places, with size and time: only their pixels tell.
    one, other = new / "eye" / "eye-000.dcm", new / "knee" / "knee-000.dcm"
    times = [path.stat().st_mtime_ns for path in (one, other)]
    one.rename(new / "aside")
    other.rename(one)
    (new / "aside").rename(other)
    for path, time in zip((one, other), times, strict=True):
        os.utime(path, ns=(time, time))
    assert one.stat().st_size == other.stat().st_size
    with pytest.raises(JobError, match="shows another picture"):
        index_archive(moved)
    for path in new.rglob("*.dcm"):
        os.utime(path)
    with pytest.raises(JobError, match="0 of the 9 files"):
        index_archive(moved)
    with open_index(settings.index, purpose="test") as opened:
        assert opened.description.roots == (str(old),)


def test_a_file_that_moves_inside_its_archive_leaves_nothing_half_done(settings: JobSettings, tmp_path: Path) -> None:
    eye = tmp_path / "old" / "eye"
    (eye / "eye-000.dcm").rename(eye / "zzz.dcm")
    report = index_archive(replace(settings, prune=True))
    assert (report.files_indexed, report.files_pruned, report.outcome) == (1, 1, "complete")
    assert states(settings.index.home) == {"indexed": 8, "left out": 1}
    with open_index(settings.index, purpose="test") as opened:
        paths = sorted(payload.locations[0].path for _, payload in opened.scroll())
    assert "eye/zzz.dcm" in paths
    assert "eye/eye-000.dcm" not in paths
