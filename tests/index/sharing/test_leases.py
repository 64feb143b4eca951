from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from uuid import UUID

import pytest

from index.address import Address
from index.ledger import FileKey, FileRecord, Ledger
from index.ledgers import open_ledger, reading_ledger
from index.opening import open_index
from index.sharing import leases
from index.sharing.collection import Lease, LedgerCollection, Session
from index.upkeep.delete import delete_points
from model.errors import IndexLockedError
from tests.index.conftest import make_points

At = Callable[[str], Address]
Opened = Callable[[str], Ledger]
ROOTS = {0: "/archive"}
DEAD = UUID(int=1)


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leases, "BEAT_SECONDS", 0.2)
    monkeypatch.setattr(leases, "LIFE_SECONDS", 1.5)
    monkeypatch.setattr(leases, "_LOOK_SECONDS", 0.1)


def collection(address: Address) -> LedgerCollection:
    assert address.server
    return LedgerCollection(address.server, 5.0)


def on_another_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leases, "machine", lambda: "another")


def test_one_machine_works_at_a_root(opened: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    first = opened("a")
    first.claim(ROOTS)
    with pytest.raises(IndexLockedError, match=r"/archive is being indexed by 'test' \(process \d+ on .* wait"):
        opened("b").claim(ROOTS)
    second = opened("b")
    second.claim({1: "/other"})
    on_another_machine(monkeypatch)
    with pytest.raises(IndexLockedError):  # whose processes are not seen, but it gives signs of life
        opened("c").claim({**ROOTS, 1: "/other"})
    first.close()
    opened("d").claim(ROOTS)


def test_what_was_done_before_a_claim_is_known_after_it(opened: Opened) -> None:
    first, second = opened("a"), opened("b")
    first.claim(ROOTS)
    first.put([FileRecord(FileKey(0, "", "1"), 1, 1, "indexed", None, ())])
    first.close()
    assert second.counts() == {}
    second.claim(ROOTS)
    assert second.counts() == {"indexed": 1}


def test_a_dead_process_of_this_machine_holds_nothing(
    at: At, opened: Opened, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(leases, "LIFE_SECONDS", 3600)  # not waited for
    opened("a").close()
    with subprocess.Popen(["true"]) as process:
        process.wait()
    there = collection(at("a"))
    there.put_session(Session(DEAD, "test", "here", process.pid, "2026"))
    held = Lease(0, str(DEAD), leases.machine(), process.pid, "here", "test", "2026")
    assert there.replace_lease(held, "")
    opened("b").claim(ROOTS)
    assert "watching" not in caplog.text
    there.close()


def test_a_silent_holder_is_taken_over_and_stops(
    at: At, opened: Opened, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    first = opened("a")
    number = first.start_job("2026-11-01", "")
    first.claim(ROOTS)
    first.put([FileRecord(FileKey(0, "", "1"), 1, 1, "writing", None, ())])
    # Its connection is cut: it cannot give signs of life.
    monkeypatch.setattr(LedgerCollection, "replace_lease", _unless_machine_is(leases.machine()))
    on_another_machine(monkeypatch)
    second = opened("b")
    second.claim(ROOTS)
    assert "watching whether that still lives" in caplog.text
    assert second.counts() == {"writing": 1}
    with reading_ledger(at("c")) as seen:
        assert seen
        assert [job.outcome for job in seen.jobs()] == ["killed"]
    monkeypatch.undo()
    monkeypatch.setattr(leases, "BEAT_SECONDS", 0.2)
    deadline = time.monotonic() + 20
    late = [FileRecord(FileKey(0, "", "2"), 1, 1, "indexed", None, ())]

    def write_until_it_is_noticed() -> None:
        while time.monotonic() < deadline:
            first.put(late)
            time.sleep(0.1)

    with pytest.raises(IndexLockedError, match=r"/archive was taken over by 'test' .*: it stops"):
        write_until_it_is_noticed()
    first.end_job(number, "2026-11-02", "failed", "")


def _unless_machine_is(cut_off: str) -> Callable[[LedgerCollection, Lease, str], bool]:
    real = LedgerCollection.replace_lease

    def replace_lease(self: LedgerCollection, lease: Lease, holder: str) -> bool:
        from model.errors import VectorIndexError

        if lease.machine == cut_off:
            raise VectorIndexError("cut off")
        return real(self, lease, holder)

    return replace_lease


def test_a_restarted_container_is_not_refused_by_its_ghost(at: At, opened: Opened) -> None:
    opened("a").close()
    there = collection(at("a"))
    there.put_session(Session(DEAD, "test", "here", os.getpid(), "2026"))
    held = Lease(0, str(DEAD), leases.machine(), os.getpid(), "here", "test", "2026", process_start=1)
    assert there.replace_lease(held, "")
    opened("b").claim(ROOTS)
    there.close()


def test_all_or_none_is_claimed(opened: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = opened("a"), opened("b")
    first.claim({1: "/other"})
    with pytest.raises(IndexLockedError):
        second.claim({**ROOTS, 1: "/other"})
    opened("c").claim(ROOTS)


def test_nothing_is_deleted_from_under_a_job(at: At, opened: Opened) -> None:
    with open_index(at("a"), purpose="test") as index:
        index.upsert(make_points(5))
        index.update_description(roots=("/archive",), model_path="/m")
    opened("a").claim(ROOTS)
    with pytest.raises(IndexLockedError, match="is being indexed by"):
        delete_points(at("b"), {"modality": ["CT", "MR"]})
    with open_index(at("b"), purpose="test") as index:
        assert index.count() == 5


def test_only_one_of_many_gets_a_lease(at: At, opened: Opened) -> None:
    opened("a").close()
    there = collection(at("a"))
    wanted = [Lease(0, f"session {number}", "m", 1, "h", "test", "2026") for number in range(8)]
    assert [there.replace_lease(one, "") for one in wanted] == [True] + [False] * 7
    beating = replace(wanted[0], beat=1)
    assert there.replace_lease(beating, "session 0")
    assert there.lease(0) == beating
    there.close()


def test_an_embedded_index_has_no_leases(tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("index")
    ledgers = list(map(partial(open_ledger, purpose="test"), [Address(folder)] * 2))
    for ledger in ledgers:
        ledger.claim(ROOTS)
        ledger.close()
