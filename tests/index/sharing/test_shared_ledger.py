from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from contextlib import closing
from uuid import uuid4

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from index.address import Address, parse_address
from index.engines.connection import connect
from index.ledger import NAME, FileKey, FileRecord, Ledger, State
from index.ledgers import open_ledger, reading_ledger
from index.opening import create_index
from index.sharing import shared_ledger
from model.errors import VectorIndexError
from tests.index.conftest import describe
from tests.index.sharing.conftest import contents
from tests.support.stand_in.service import StandIn

At = Callable[[str], Address]
Opened = Callable[[str], Ledger]


def record(name: str, state: State = "indexed", size: int = 1) -> FileRecord:
    key = FileKey(0, "deep/er", name)
    return FileRecord(key, size, 1_790_000_000_123_456_789, state, "liver", (uuid4(), uuid4()))


def test_what_one_machine_writes_another_one_knows(at: At, opened: Opened) -> None:
    ledger = opened("a")
    ledger.put([record("1"), record("2"), record("3")])
    number = ledger.start_job("2026-11-01T00:00:00+00:00", json.dumps({"archives": ["/x"]}))
    ledger.mark_writing([FileKey(0, "deep/er", "1")])
    rows = set(ledger.rows())
    assert contents(at("b")) == rows  # also while the other one is at work
    with reading_ledger(at("b")) as seen:
        assert seen
        job = seen.last_job()
        assert job
        assert (job.started, job.ended, job.outcome) == ("2026-11-01T00:00:00+00:00", None, "running")
    ledger.forget([FileKey(0, "deep/er", "2")])
    ledger.leave_out(
        {FileKey(0, "deep/er", "3"): ledger.points([FileKey(0, "deep/er", "3")]).popitem()[1]}, "deleted", "x"
    )
    ledger.end_job(number, "2026-11-01T01:00:00+00:00", "complete", json.dumps({"archives": ["/x"]}))
    rows = set(ledger.rows())
    ledger.close()
    assert len(rows) == 2
    assert contents(at("b")) == contents(at("c")) == rows
    with reading_ledger(at("b")) as seen:
        assert seen
        assert [(job.outcome, job.ended) for job in seen.jobs()] == [("complete", "2026-11-01T01:00:00+00:00")]
    another = opened("b")
    another.put([record("2", size=7)])
    another.close()
    assert contents(at("a")) == contents(at("b"))
    assert len(contents(at("a"))) == 3


def test_a_machine_that_only_reads_tells_nothing(at: At, opened: Opened) -> None:
    assert contents(at("a")) == set()  # nor makes a collection
    opened("a").put([record("1")])
    with reading_ledger(at("b")) as seen:
        assert seen
        with pytest.raises(VectorIndexError, match="-ledger was opened to be read"):
            seen.put([record("2")])


def test_what_another_machine_has_done_meanwhile_is_not_undone(at: At, opened: Opened) -> None:
    first, second = opened("a"), opened("b")
    second.put([record("new"), record("changed", size=1)])
    first.close()
    first = opened("a")
    second.put([record("changed", size=2), record("newer")])
    before = {row[2]: row for row in second.rows()}
    first.mark_writing([record(name).key for name in ("newer", "changed")])  # as heirs of a shared picture
    after = {row[2]: row for row in contents(at("c"))}
    assert after["newer"][:5] == before["newer"][:5]
    assert (after["newer"][5], after["newer"][7]) == ("writing", before["newer"][7])
    assert (after["changed"][3], after["changed"][5]) == (2, "writing")
    assert after["new"] == before["new"]


def test_a_job_is_told_once(at: At, opened: Opened) -> None:
    at("a").home.mkdir(parents=True, exist_ok=True)
    own = Ledger(at("a").home)
    own.put([record("1")])
    own.end_job(own.start_job("2026-11-01"), "2026-11-02", "complete", "")
    own.close()
    other = opened("b")
    other.start_job("2026-11-03", "")
    assert len(contents(at("a"))) == 1  # a reader, before any job has shared what is here
    opened("a").close()
    with reading_ledger(at("c")) as seen:
        assert seen
        assert [(job.started, job.outcome) for job in seen.jobs()] == [
            ("2026-11-03", "running"),
            ("2026-11-01", "complete"),
        ]


def test_rows_made_again_from_old_points_give_way_to_a_ledger_that_knows(at: At, opened: Opened) -> None:
    at("a").home.mkdir(parents=True, exist_ok=True)
    own = Ledger(at("a").home)
    own.put([record("1", size=5)])
    own.close()
    opened("b").put([record("1", size=-1), record("2", size=-1)])
    opened("a").close()
    assert {row[2]: row[3] for row in contents(at("c"))} == {"1": 5, "2": -1}


def test_where_nothing_can_be_kept_it_is_read_all_the_same(
    at: At, opened: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened("a").put([record("1")])
    monkeypatch.setattr("os.access", lambda _path, _mode: False)
    assert len(contents(at("b"))) == 1
    assert not list(at("b").home.iterdir())


def test_what_a_library_says_of_a_file_stays_here_where_paths_are_hidden(at: At) -> None:
    ledger = open_ledger(at("a"), purpose="test", hides_paths=True)
    key = FileKey(0, "f00", "ba5")
    ledger.put([FileRecord(key, 1, 2, "left out", None, (), "corrupt or truncated", "header: Doe^Jane")])
    assert next(ledger.rows())[9] == "header: Doe^Jane"
    ledger.close()
    [row] = contents(at("b"))
    assert (row[8], row[9]) == ("corrupt or truncated", None)


def test_a_ledger_of_earlier_versions_is_shared(at: At, opened: Opened) -> None:
    own = {}
    for name in ("a", "b"):  # each machine knew only its own files
        at(name).home.mkdir(parents=True, exist_ok=True)
        own[name] = Ledger(at(name).home)
        own[name].put([record(name), record("both", size=ord(name))])
        own[name].end_job(own[name].start_job(f"2026-11-0{ord(name) - 96}"), "2026-11-09", "complete", "")
        own[name].close()
    assert {row[2] for row in contents(at("a"))} == {"a", "both"}
    opened("a").close()
    opened("b").close()
    rows = contents(at("c"))
    assert {row[2]: row[3] for row in rows} == {"a": 1, "b": 1, "both": ord("a")}
    assert contents(at("a")) == contents(at("b")) == rows
    with reading_ledger(at("c")) as seen:
        assert seen
        assert [job.started for job in seen.jobs()] == ["2026-11-02", "2026-11-01"]


@pytest.mark.parametrize("place", ["wire"], indirect=True)
def test_what_did_not_arrive_gives_way_to_what_is_shared(
    at: At, opened: Opened, server: StandIn, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(shared_ledger, "WRITE_PATIENCE_SECONDS", 0.5)
    monkeypatch.setattr(shared_ledger, "LAST_WORD_SECONDS", 0.5)
    ledger = opened("a")
    ledger.put([record("1", "writing")])
    before = set(ledger.rows())
    server.stop()
    with pytest.raises(VectorIndexError, match="cannot be reached"):
        ledger.put([record("1", "indexed")])
    assert set(ledger.rows()) != before
    ledger.close()
    assert "cannot be reached" in caplog.text
    server.start()
    assert contents(at("a")) == contents(at("b")) == before


def test_the_ledger_of_an_earlier_index_is_kept_aside(at: At, opened: Opened, drop: Callable[[str], None]) -> None:
    opened("a").put([record("1")])
    assert len(contents(at("b"))) == 1
    drop("-ledger")
    ledger = opened("c")
    ledger.put([record("other")])
    ledger.close()
    assert {row[2] for row in contents(at("b"))} == {"other"}
    kept = [path.name for path in at("b").home.iterdir() if path.suffix == ".sqlite" and path.name != NAME]
    assert len(kept) == 1
    assert kept[0].startswith("ledger-")


def test_an_error_that_may_name_a_hidden_path_is_not_shared(at: At) -> None:
    ledger = open_ledger(at("a"), purpose="test", hides_paths=True)
    number = ledger.start_job("2026-11-01", json.dumps({"archives": ["/x"], "error": None}))
    ledger.end_job(number, "2026-11-02", "failed", json.dumps({"archives": ["/x"], "error": "/x/Doe^Jane.dcm is bad"}))
    ledger.close()
    with reading_ledger(at("b")) as seen:
        assert seen
        job = seen.last_job()
        assert job
        assert json.loads(job.report or "") == {"archives": ["/x"]}


def test_another_programs_collection_is_not_touched(at: At) -> None:
    where = at("a").server
    assert where
    with closing(connect(where)) as client:
        client.create_collection(f"{where.collection}-ledger", vectors_config={}, metadata={"theirs": 1})
    with pytest.raises(VectorIndexError, match=r"-ledger.* is a collection, but no ledger of cbmir"):
        open_ledger(at("a"), purpose="test")


OPERATIONS = st.lists(
    st.tuples(
        st.sampled_from("ab"),
        st.sampled_from(["put", "mark", "forget", "drop", "reopen", "kill"]),
        st.sets(st.sampled_from("123456"), min_size=1),
    ),
    max_size=25,
)


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(operations=OPERATIONS)
def test_whatever_two_machines_do_they_know_the_same(
    operations: list[tuple[str, str, set[str]]], server: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    collection = uuid4().hex
    with tempfile.TemporaryDirectory() as folder:
        address: dict[str, Address] = {}
        for name in "abc":
            monkeypatch.setenv("CBMIR_STATE", f"{folder}/{name}")
            address[name] = parse_address(f"http://127.0.0.1:1/{collection}?grpc_port={server.port}")
        create_index(address["a"], describe(), purpose="test").close()
        working, at_work = "a", open_ledger(address["a"], purpose="test")
        for name, operation, names in operations:
            if name != working or operation in {"reopen", "kill"}:  # one works at a time, as the leases have it
                if operation != "kill":
                    at_work.close()
                working, at_work = name, open_ledger(address[name], purpose="test")
            keys = [FileKey(0, "deep/er", one) for one in sorted(names)]
            match operation:
                case "put":
                    at_work.put([record(one, size=len(operations)) for one in sorted(names)])
                case "mark":
                    at_work.mark_writing(keys)
                case "forget":
                    at_work.forget(keys)
                case "drop":
                    at_work.drop_points({key: ids[:1] for key, ids in at_work.points(keys).items()})
            expected = set(at_work.rows())
        expected = set(at_work.rows())
        at_work.close()
        assert contents(address["a"]) == contents(address["b"]) == contents(address["c"]) == expected
