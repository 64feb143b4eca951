from __future__ import annotations

import json
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from uuid import uuid4

import pytest

from index.address import parse_address
from index.ledger import Ledger
from index.opening import open_index
from index.upkeep.verify import verify
from tests.index.conftest import Engine, describe, make_points
from tests.support.jobs import small_job
from workers.indexing.job import index_archive


def lose(folder: Path, count: int) -> set[str]:
    """Take points out of the index behind the ledger's back; return the paths of their files."""
    with open_index(parse_address(folder), purpose="test") as index:
        lost = list(islice(index.scroll(), count))
        index.delete([point for point, _ in lost])
        index.flush()
    return {location.path for _, payload in lost for location in payload.locations}


def test_ledger_and_index_are_compared_both_ways(
    archive: Path, model_path: Path, tmp_path: Path, without_ray: None
) -> None:
    address = parse_address(tmp_path / "index")
    report = index_archive(small_job((archive,), model_path, tmp_path / "index"))
    ledger = Ledger(tmp_path / "index")
    told: list[int] = []
    with open_index(address, purpose="test") as index:
        whole = verify(index, ledger, progress=told.append)
        assert (whole.points, whole.points_missing, whole.files_missing) == (report.points, 0, ())
        assert whole.points_unknown == 0
        key = next(ledger.keys("indexed"))
        ledger.mark_writing([key])  # its points are there and are no strangers
        assert verify(index, ledger).points_unknown == 0
        ledger.forget([key])
        unknown = verify(index, ledger).points_unknown
        assert unknown >= 1
    paths = lose(tmp_path / "index", 5)
    with open_index(address, purpose="test") as index:
        found = verify(index, ledger)
    assert {file.path for file in found.files_missing} == paths - {key.path}
    ledger.close()


def test_points_that_no_ledger_knows_are_counted(engine: Engine, tmp_path: Path) -> None:
    with engine.create(describe()) as index:
        index.upsert(make_points(30))
        ledger = Ledger(tmp_path)
        found = verify(index, ledger)
        ledger.close()
    assert (found.points, found.points_missing, found.points_unknown) == (30, 0, 30)


def test_what_was_lost_is_said_and_mended(
    cbmir: Callable[..., int],
    archive: Path,
    model_path: Path,
    tmp_path: Path,
    without_ray: None,
    capsys: pytest.CaptureFixture[str],
) -> None:
    index = tmp_path / "index"
    job = ("index", archive, "--index", index, "--model", model_path)
    assert cbmir(*job) == 3
    check = ("status", "--index", index, "--verify")
    capsys.readouterr()
    assert cbmir(*check) == 0
    assert "every point of the ledger is in the index" in " ".join(capsys.readouterr().out.split())
    paths = lose(index, 4)
    assert cbmir("status", "--index", index) == 0  # which looks at the ledger alone
    assert cbmir(*job) == 3
    capsys.readouterr()
    assert cbmir(*check) == 3
    shown = " ".join(capsys.readouterr().out.split())
    assert f"4 points of {len(paths)} files are not in the index: 'cbmir index ARCHIVE --repair'" in shown
    assert cbmir(*check, "--format", "json") == 3
    values = json.loads(capsys.readouterr().out)
    assert (values["verified"]["points_missing"], values["complete"]) == (4, False)
    assert cbmir(*job, "--repair", "--dry-run") == 2
    assert cbmir(*job, "--repair") == 3
    assert f"{len(paths)} files had lost points" in " ".join(capsys.readouterr().err.split())
    assert cbmir(*check) == 0
    assert cbmir("status", "--index", tmp_path / str(uuid4()), "--verify") == 1
    with open_index(parse_address(index), purpose="a job"):
        assert cbmir(*check) == 1  # nothing was verified
    assert "a job" in capsys.readouterr().err
