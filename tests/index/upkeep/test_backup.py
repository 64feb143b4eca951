from __future__ import annotations

import gzip
import shutil
import tarfile
from pathlib import Path
from uuid import uuid4

import pytest

from index.address import parse_address
from index.ledger import FileKey, FileRecord, Ledger
from index.ledgers import open_ledger, reading_ledger
from index.opening import create_index, open_index
from index.upkeep.backup import back_up, restore
from model.errors import IndexLockedError, SettingError, VectorIndexError
from tests.index.conftest import describe, make_points
from tests.support.stand_in.service import StandIn


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An index of 300 points with a ledger."""
    folder = tmp_path / "index"
    with create_index(parse_address(folder), describe(), purpose="test") as index:
        index.upsert(make_points(300))
    ledger = Ledger(folder)
    ledger.end_job(ledger.start_job("monday"), "later", "complete", "{}")
    ledger.close()
    return folder


def test_a_restored_index_is_the_one_that_was_backed_up(folder: Path, tmp_path: Path) -> None:
    file = tmp_path / "index.tar"
    assert back_up(parse_address(folder), file).points == 300
    assert file.stat().st_mode & 0o077 == 0
    assert restore(file, parse_address(tmp_path / "restored")).points == 300
    with (
        open_index(parse_address(folder), purpose="test") as ours,
        open_index(parse_address(tmp_path / "restored"), purpose="test") as theirs,
    ):
        assert list(ours.scroll()) == list(theirs.scroll())
        point = make_points(300)[123]
        assert (theirs.vector(point.id, "fcl1") == point.vectors["fcl1"]).all()
        theirs.upsert(make_points(5, seed=1))
        assert (theirs.count(), ours.count()) == (305, 300)
    ledger = Ledger(tmp_path / "restored", read_only=True)
    last = ledger.last_job()
    ledger.close()
    assert last
    assert last.outcome == "complete"


def test_a_servers_index_is_one_file_too_and_comes_back_whole(
    server: StandIn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CBMIR_STATE", str(tmp_path / "state"))
    address = parse_address(f"http://127.0.0.1:1/test?grpc_port={server.port}")
    with create_index(address, describe(), purpose="test") as index:
        index.upsert(make_points(300))
        query = index.vector(make_points(1)[0].id, "fcl1")
        before = [(hit.id, hit.score) for hit in index.nearest(query, "fcl1", top=10)]
    ledger = open_ledger(address, purpose="test")
    ledger.put([FileRecord(FileKey(0, "a", f"{n}.dcm"), n, n, "indexed", None, (uuid4(),)) for n in range(50)])
    ledger.end_job(ledger.start_job("monday"), "later", "complete", "{}")
    rows = set(ledger.rows())
    ledger.close()
    shutil.rmtree(address.home)  # another machine backs it up
    file = tmp_path / "index.tar.gz"
    told: list[str] = []
    assert back_up(address, file, progress=lambda stage, _done, _total: told.append(stage)).points == 300
    assert {"copying", "verifying", "writing"} <= set(told)
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith("cbmir-backup-")] == []

    another = StandIn()  # the first one is lost, and its state with it
    back = parse_address(f"http://127.0.0.1:1/back?grpc_port={another.port}")
    for target in (back, parse_address(tmp_path / "embedded")):
        assert restore(file, target).points == 300
        with open_index(target, purpose="test") as index:
            after = [(hit.id, hit.score) for hit in index.nearest(query, "fcl1", top=10)]
        assert [point for point, _ in after] == [point for point, _ in before]
        assert [score for _, score in after] == pytest.approx([score for _, score in before], abs=1e-3)
        if target.server:
            shutil.rmtree(target.home)
        with reading_ledger(target) as found:
            assert found
            last = found.last_job()
            assert last
            assert last.outcome == "complete"
            assert set(found.rows()) == rows
    with pytest.raises(SettingError, match="has the ledger of an earlier index, with 50 files"):
        restore(file, back)
    another.stop()


def test_what_is_in_use_in_the_way_or_damaged_is_said(folder: Path, tmp_path: Path) -> None:
    file = tmp_path / "index.tar"
    with open_index(parse_address(folder), purpose="a job"), pytest.raises(IndexLockedError, match="'a job'"):
        back_up(parse_address(folder), file)
    back_up(parse_address(folder), file)
    with pytest.raises(SettingError, match="exists: name a new file"):
        back_up(parse_address(folder), file)
    with pytest.raises(SettingError, match="is not empty"):
        restore(file, parse_address(folder))
    cut = tmp_path / "cut.tar"
    cut.write_bytes(file.read_bytes()[:50_000])
    with pytest.raises(VectorIndexError, match="damaged"):
        restore(cut, parse_address(tmp_path / "restored"))
    (tmp_path / "no.tar").write_text("no tar file")
    with pytest.raises(VectorIndexError, match="is no backup"):
        restore(tmp_path / "no.tar", parse_address(tmp_path / "restored"))
    with tarfile.open(tmp_path / "evil.tar", "w:gz") as tar:
        tar.add(cut, "../outside")
    with pytest.raises(VectorIndexError, match="is no backup"):
        restore(tmp_path / "evil.tar", parse_address(tmp_path / "restored"))
    assert not (tmp_path / "restored").exists()
    assert not (tmp_path / "outside").exists()


def test_a_damaged_byte_is_noticed_also_where_the_archive_stays_readable(folder: Path, tmp_path: Path) -> None:
    file = tmp_path / "index.tar"
    back_up(parse_address(folder), file)
    whole = file.read_bytes()
    noticed = 0
    for position in range(len(whole) // 25, len(whole) - 9, len(whole) // 6):
        flipped = bytearray(whole)
        flipped[position] ^= 0x10
        file.write_bytes(flipped)
        try:
            restore(file, parse_address(tmp_path / f"restored{position}"))
        except VectorIndexError:
            noticed += 1
        else:
            # In a run of zeros, a match at another distance is the same match.
            assert gzip.decompress(flipped) == gzip.decompress(whole)
    assert noticed >= 2
