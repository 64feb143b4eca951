from __future__ import annotations

from pathlib import Path
from uuid import uuid4

import pytest

from index.ledger import NAME, FileKey, FileRecord, Known, Ledger
from model.errors import VectorIndexError

KEY = FileKey(0, "a/b", "c.dcm")


def test_files_come_back(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    points = (uuid4(), uuid4())
    ledger.put([FileRecord(KEY, 10, 20, "indexed", "liver", points)])
    ledger.put([FileRecord(FileKey(0, "", "bad"), 1, 2, "left out", None, (), "corrupt", "half")])
    assert ledger.directory(0, "a/b") == {"c.dcm": Known(10, 20, "indexed", "liver")}
    assert ledger.points([KEY, FileKey(0, "", "unknown")]) == {KEY: points}
    assert ledger.directories(0) == {"a/b", ""}
    assert ledger.counts() == {"indexed": 1, "left out": 1}
    assert ledger.counts(7) == {}
    assert list(ledger.keys("left out", "corrupt")) == [FileKey(0, "", "bad")]
    assert list(ledger.keys("left out", "deleted")) == []
    assert list(ledger.keys("indexed")) == [KEY]
    ledger.close()
    again = Ledger(tmp_path, read_only=True)
    assert again.points([KEY]) == {KEY: points}
    with pytest.raises(VectorIndexError, match="readonly"):
        again.put([FileRecord(KEY, 10, 20, "indexed", None, ())])
    again.close()


def test_records_are_replaced_and_forgotten(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    ledger.put([FileRecord(KEY, 1, 1, "writing", None, (uuid4(),))])
    ledger.put([FileRecord(KEY, 2, 3, "indexed", None, ())])
    assert ledger.directory(0, "a/b") == {"c.dcm": Known(2, 3, "indexed", None)}
    ledger.forget([KEY])
    assert ledger.counts() == {}
    ledger.close()


def test_jobs(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    assert ledger.last_job() is None
    first, second = ledger.start_job("monday"), ledger.start_job("tuesday")
    ledger.end_job(first, "later", "complete", "{}")
    last = ledger.last_job()
    assert last
    assert (last.number, last.started, last.ended, last.outcome) == (second, "tuesday", None, "running")
    ledger.close()


def test_a_damaged_ledger_is_named(tmp_path: Path) -> None:
    (tmp_path / NAME).write_bytes(b"no database" * 1000)
    with pytest.raises(VectorIndexError, match=NAME):
        Ledger(tmp_path)


def test_a_deletion_is_noted_before_and_after(tmp_path: Path) -> None:
    one, two = uuid4(), uuid4()
    whole, part = KEY, FileKey(0, "a/b", "frames.dcm")
    ledger = Ledger(tmp_path)
    ledger.put([FileRecord(whole, 1, 1, "indexed", None, (one,)), FileRecord(part, 1, 1, "indexed", None, (one, two))])
    doomed = {whole: [one], part: [one]}
    ledger.leave_out(doomed, "deleted", "by hand")
    assert ledger.counts() == {"indexed": 1, "left out": 1}
    assert ledger.points(doomed) == {whole: (one,), part: (one, two)}
    ledger.drop_points(doomed)
    assert ledger.points(doomed) == {whole: (), part: (two,)}
    ledger.mark_writing([part])
    assert ledger.counts() == {"writing": 1, "left out": 1}
    ledger.close()
