from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Callable
from pathlib import Path
from uuid import UUID

import numpy as np
import pytest

from index.address import parse_address
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
    assert (copied.points, copied.has_ledger) == (200, True)
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
    assert (copied.points, copied.has_ledger) == (200, False)


def test_it_is_restored_from_the_command_line(
    snapshot: Path, tmp_path: Path, cbmir: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    restore = ("restore", snapshot, "--index", tmp_path / "index")
    assert cbmir(*restore, "--ledger", tmp_path / "nowhere") == 2
    assert "nowhere does not exist" in " ".join(capsys.readouterr().err.split())
    assert cbmir(*restore, "--ledger", snapshot.parent) == 0
    assert "holds the 200 points of" in capsys.readouterr().out
    assert cbmir("status", "--index", tmp_path / "index", "--verify") == 0
    assert cbmir("search", "--like", "01d5c16c", "--index", tmp_path / "index", "--top", 3) == 0
    assert "6b588fe0" in capsys.readouterr().out
    assert cbmir(*restore) in {1, 2}  # it is there
    assert cbmir("restore", snapshot, "--index", tmp_path / "other") == 0
    assert "embeds everything again" in " ".join(capsys.readouterr().err.split())


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


def test_snapshots_of_different_indexes_are_not_mixed(snapshot: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    with tarfile.open(snapshot) as tar, tarfile.open(other, "w") as out:
        file = tar.extractfile("config.json")
        assert file
        values = json.load(file)
        values["metadata"]["cbmir"]["model_fingerprint"] = "0" * 32
        data = json.dumps(values).encode()
        entry = tarfile.TarInfo("config.json")
        entry.size = len(data)
        out.addfile(entry, io.BytesIO(data))
    with pytest.raises(SettingError, match="of different indexes"):
        restore_snapshots([snapshot, other], parse_address(tmp_path / "index"))
