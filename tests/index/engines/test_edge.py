from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from index.address import parse_address
from index.engines import edge
from index.engines.edge import _lists
from index.engines.engine import Index
from index.opening import create_index, open_index
from model.errors import DiskFullError
from tests.index.conftest import WIDTH, describe, make_points


def test_a_full_disk_is_met_before_it_is_full(index: Index, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = type("Usage", (), {"free": 100 * 2**20})
    monkeypatch.setattr("shutil.disk_usage", lambda _: usage)
    with pytest.raises(DiskFullError, match="only 100 MB are free"):
        index.upsert(make_points(3, seed=1))
    with pytest.raises(DiskFullError, match="only 100 MB are free"):
        index.flush()
    with pytest.raises(DiskFullError, match="only 100 MB are free"):
        index.optimize()
    monkeypatch.undo()
    assert index.count() == 60


@pytest.mark.usefixtures("early_graphs")
def test_the_graph_holds_every_vector(tmp_path: Path) -> None:
    points = make_points(600)
    with create_index(parse_address(tmp_path / "index"), describe(), purpose="test") as index:
        for start in range(0, len(points), 300):
            index.upsert(points[start : start + 300])
        assert not index.statistics().complete
        index.optimize()
        after = index.statistics()
        assert (after.indexed_vectors, after.complete) == (600, True)
        assert after.bytes_on_disk
        assert after.bytes_on_disk > 600 * 2 * WIDTH


@pytest.mark.usefixtures("early_graphs")
def test_the_graph_grows_while_points_come_in_and_old_ones_stay_as_they_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(edge, "KEEP_UP_BYTES", 600 * 2 * WIDTH)
    with create_index(parse_address(tmp_path / "index"), describe(), purpose="test") as index:
        segments = []
        for seed in range(3):
            index.upsert(make_points(300, seed=2 * seed))
            index.keep_up()
            assert index.statistics().indexed_vectors == 600 * seed
            index.upsert(make_points(300, seed=2 * seed + 1))
            index.keep_up()
            assert index.statistics().indexed_vectors == 600 * (seed + 1)
            segments.append({folder.name for folder in (tmp_path / "index/shard/segments").iterdir()})
    assert len(segments[0] & segments[1] & segments[2]) >= 1  # what was built is not built again


def test_a_job_does_not_end_for_a_graph_that_finds_no_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(edge, "KEEP_UP_BYTES", 0)
    with create_index(parse_address(tmp_path / "index"), describe(), purpose="test") as index:
        index.upsert(make_points(5))
        monkeypatch.setattr(edge, "MIN_FREE_BYTES", 2**60)
        index.keep_up()
        with pytest.raises(DiskFullError):
            index.optimize()


def test_the_engine_is_given_every_number_as_it_is() -> None:
    every = np.arange(2**16, dtype=np.uint16).view(np.float16)
    every = every[np.isfinite(every)]
    for vector in (every, every[::-3], every.astype(np.float32)):
        (values,) = _lists(vector[np.newaxis])
        assert [value.hex() for value in values] == [value.hex() for value in vector.tolist()]  # -0.0 is not 0.0


def test_a_killed_writer_loses_nothing_that_it_flushed(tmp_path: Path) -> None:
    script = (
        "import os, signal\n"
        "from index.address import parse_address\n"
        "from index.opening import create_index\n"
        "from tests.index.conftest import describe, make_points\n"
        f"index = create_index(parse_address({str(tmp_path / 'index')!r}), describe(), purpose='doomed')\n"
        "index.upsert(make_points(50)); index.flush(); index.upsert(make_points(50, seed=1))\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    assert subprocess.run([sys.executable, "-c", script], check=False, cwd=Path(__file__).parents[3]).returncode == -9
    assert json.loads((tmp_path / "index" / "holder.json").read_text())["purpose"] == "doomed"
    with open_index(parse_address(tmp_path / "index"), purpose="test", wait=0) as index:
        assert index.count() >= 50
        assert set(index.retrieve([p.id for p in make_points(50)])) == {p.id for p in make_points(50)}
