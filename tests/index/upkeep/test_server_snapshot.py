from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import UUID

import numpy as np
import pytest

from index.address import parse_address
from index.home.key import KEY_NAME
from index.ledger import Ledger
from index.opening import open_index
from index.upkeep.server_snapshot import is_snapshot, restore_snapshots
from index.upkeep.verify import verify
from model.errors import NotAnIndexError, SettingError, VectorIndexError


@pytest.fixture
def snapshot(shared_data: Path) -> Path:
    """Of a real Qdrant server 1.18.3, of an index of 200 points, with its jobs' ledger beside it."""
    return shared_data / "snapshot" / "collection.snapshot"


def test_a_servers_snapshot_becomes_an_embedded_index(snapshot: Path, tmp_path: Path) -> None:
    assert is_snapshot(snapshot)
    address = parse_address(tmp_path / "index")
    copied = restore_snapshots([snapshot], address, ledger=snapshot.parent)
    assert (copied.points, copied.rebuilt) == (200, None)
    with open_index(address, purpose="test") as index:
        assert (index.count(), len(index.description.classes), index.description.roots) == (200, 24, ("/archive",))
        for point, expected in json.loads(snapshot.with_name("nearest.json").read_text()).items():
            hits = index.nearest(index.vector(UUID(point), "fcl1"), "fcl1", top=11, exact=True)[1:]
            assert [str(hit.id) for hit in hits] == [name for name, _ in expected]
            assert np.allclose([hit.score for hit in hits], [distance for _, distance in expected], atol=1e-3)
        ledger = Ledger(tmp_path / "index")
        assert ledger.counts() == {"indexed": 200}
        found = verify(index, ledger)
        ledger.close()
    assert (found.points, found.points_missing, found.points_unknown) == (200, 0, 0)


def test_shards_of_several_nodes_become_one_index(snapshot: Path, tmp_path: Path) -> None:
    # Each node's snapshot holds its own shards; a replica is in more than one.
    copied = restore_snapshots([snapshot, snapshot], parse_address(tmp_path / "index"))
    assert copied.points == 200
    assert copied.rebuilt


def test_it_is_restored_from_the_command_line(
    snapshot: Path, tmp_path: Path, cbmir: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    restore = ("restore", snapshot, "--index", tmp_path / "index")
    for arguments, said in (
        ((*restore, "--ledger", tmp_path / "nowhere"), "nowhere holds no ledger.sqlite"),
        (("restore", snapshot, tmp_path / "typo", *restore[2:]), "typo does not exist"),
        (("restore", snapshot, __file__, *restore[2:]), "is no snapshot of a server"),
    ):
        assert cbmir(*arguments) == 2, arguments
        assert said in " ".join(capsys.readouterr().err.split()), arguments
    assert cbmir(*restore, "--ledger", snapshot.parent) == 0
    assert "holds the 200 points of" in capsys.readouterr().out
    assert cbmir("status", "--index", tmp_path / "index", "--verify") == 0
    assert cbmir("search", "--like", "01d5c16c", "--index", tmp_path / "index", "--top", 3) == 0
    assert "6b588fe0" in capsys.readouterr().out
    assert cbmir(*restore) in {1, 2}  # it is there
    assert cbmir("restore", snapshot, "--index", tmp_path / "other") == 0
    assert "one was made again from the points, 200 files, of which the next job reads 200 again" in " ".join(
        capsys.readouterr().err.split()
    )


def test_what_is_no_snapshot_of_an_index_is_said(tmp_path: Path) -> None:
    def write(name: str, **contents: object) -> Path:
        with tarfile.open(tmp_path / name, "w") as tar:
            for member, value in contents.items():
                data = json.dumps(value).encode()
                entry = tarfile.TarInfo(f"{member}.json")
                entry.size = len(data)
                tar.addfile(entry, io.BytesIO(data))
        return tmp_path / name

    target = parse_address(tmp_path / "index")
    assert not is_snapshot(write("other.tar", something={}))
    assert not is_snapshot(tmp_path / "absent")
    with pytest.raises(NotAnIndexError, match="of no index of cbmir"):
        restore_snapshots([write("theirs", config={"metadata": None})], target)
    with pytest.raises(VectorIndexError, match="schema version 1, not"):
        restore_snapshots([write("old", config={"metadata": {"cbmir": {"schema_version": 1}}})], target)
    with pytest.raises(VectorIndexError, match="is no snapshot of a collection, or is damaged"):
        restore_snapshots([write("half.tar", something={})], target)
    assert not target.home.exists()


def changed(snapshot: Path, to: Path, change: Callable[[dict[str, Any]], None]) -> Path:
    """A snapshot that says something else of itself."""
    with tarfile.open(snapshot) as tar, tarfile.open(to, "w") as out:
        for entry in tar:
            content = tar.extractfile(entry) if entry.isfile() else None
            data = content.read() if content else b""
            if entry.name == "config.json":
                values = json.loads(data)
                change(values)
                data = json.dumps(values).encode()
            plain = tarfile.TarInfo(entry.name)
            plain.size = len(data)
            out.addfile(plain, io.BytesIO(data))
    return to


def test_a_part_of_an_index_is_not_taken_for_the_whole(snapshot: Path, tmp_path: Path) -> None:
    part = changed(snapshot, tmp_path / "part", lambda values: values["params"].update(shard_number=3))
    with pytest.raises(SettingError, match="shards 1, 2 of 3 are in none of the snapshots"):
        restore_snapshots([part], parse_address(tmp_path / "index"))


def test_the_key_of_a_hashing_index_comes_along(snapshot: Path, tmp_path: Path) -> None:
    hashing = changed(snapshot, tmp_path / "h", lambda values: values["metadata"]["cbmir"].update(path_privacy="hash"))
    target = parse_address(tmp_path / "index")
    with pytest.raises(SettingError, match=r"name the folder that holds its privacy\.key"):
        restore_snapshots([hashing], target)
    ledger = Ledger(home := tmp_path)
    ledger.end_job(
        ledger.start_job("monday"), "later", "complete", "{}"
    )  # in the log beside the file, as it stays open
    (home / KEY_NAME).write_text("00" * 32)
    (home / "reports").mkdir()
    (home / "reports" / "job-000001.json").write_text("{}")
    restore_snapshots([hashing], target, ledger=home)
    ledger.close()
    assert (target.home / KEY_NAME).stat().st_mode & 0o077 == 0
    assert (target.home / "reports" / "job-000001.json").exists()
    restored = Ledger(target.home, read_only=True)
    last = restored.last_job()
    restored.close()
    assert last
    assert last.outcome == "complete"


def test_snapshots_of_different_indexes_are_not_mixed(snapshot: Path, tmp_path: Path) -> None:
    other = changed(
        snapshot, tmp_path / "other", lambda values: values["metadata"]["cbmir"].update(model_fingerprint="0" * 32)
    )
    with pytest.raises(SettingError, match="of different indexes"):
        restore_snapshots([snapshot, other], parse_address(tmp_path / "index"))
