"""An index that is kept open for hours, and jobs that want to write to it meanwhile."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from index import kept_open
from index.address import Address, parse_address
from index.engines.engine import Searchable
from index.engines.owner import AskedIndex
from index.home.lock import holder
from index.kept_open import KeptIndex
from index.opening import create_index, open_index, open_to_search
from model.errors import IndexLockedError, ModelMismatchError
from tests.index.conftest import describe, make_points


@pytest.fixture
def address(tmp_path: Path) -> Address:
    """An index of three points."""
    made = parse_address(tmp_path / "index")
    with create_index(made, describe(), purpose="test") as index:
        index.upsert(make_points(3))
    return made


@pytest.fixture
def kept(address: Address) -> Iterator[KeptIndex]:
    with KeptIndex(address, "keeping") as index:
        yield index


def asked(index: Searchable) -> str | None:
    return index.asked


def test_others_are_answered_while_it_is_kept(kept: KeptIndex, address: Address) -> None:
    there = holder(address.home)
    assert there is not None
    assert there.purpose == "keeping"
    with open_to_search(address, purpose="test") as other:
        assert isinstance(other, AskedIndex)
        assert other.count() == kept.ask(lambda index: index.count()) == 3


def test_a_job_gets_it_answers_meanwhile_and_gives_it_back(kept: KeptIndex, address: Address) -> None:
    assert kept.ask(asked) is None
    with create_index(address, describe(), purpose="a job") as writer:
        writer.upsert(make_points(5, seed=1))
        assert "'a job'" in str(kept.ask(asked))
        assert kept.ask(lambda index: index.count()) == 8
    assert kept.ask(lambda index: index.count()) == 8
    assert kept.ask(asked) is None
    with open_index(address, purpose="another") as again:
        assert again.count() == 8


def test_a_question_that_is_asked_is_answered_before_it_is_let_go_of(kept: KeptIndex, address: Address) -> None:
    entered, leave, counted = threading.Event(), threading.Event(), []

    def slow(index: Searchable) -> None:
        entered.set()
        leave.wait(20)
        counted.append(index.count())

    asking = threading.Thread(target=kept.ask, args=(slow,))
    asking.start()
    entered.wait(20)
    opened: list[int] = []

    def write() -> None:
        with open_index(address, purpose="a job") as writer:
            opened.append(writer.count())

    writing = threading.Thread(target=write)
    writing.start()
    writing.join(0.5)
    assert not opened
    leave.set()
    asking.join(20)
    writing.join(20)
    assert (counted, opened) == ([3], [3])


def test_it_comes_back_where_whoever_wanted_it_did_not_take_it(
    kept: KeptIndex, address: Address, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kept_open, "GRACE_SECONDS", 0.3)
    there = holder(address.home)
    assert there is not None
    assert AskedIndex(address.home, there).ask("let go") is True
    assert kept.ask(lambda index: index.count()) == 3


def test_a_job_that_is_over_before_the_next_question_is_not_waited_for(
    kept: KeptIndex, address: Address, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kept_open, "GRACE_SECONDS", 3600.0)
    with create_index(address, describe(), purpose="a job"):
        time.sleep(1)  # longer than it takes to be seen
    counted: list[int] = []
    asking = threading.Thread(target=lambda: counted.append(kept.ask(lambda index: index.count())), daemon=True)
    asking.start()
    asking.join(60)
    assert counted == [3]


def test_a_job_lets_go_of_nothing(address: Address) -> None:
    with (
        open_index(address, purpose="a job"),
        pytest.raises(IndexLockedError, match="is in use by 'a job'"),
    ):
        open_index(address, purpose="another", wait=0.1)


def test_an_index_that_another_model_made_anew_is_refused(kept: KeptIndex, address: Address) -> None:
    with create_index(address, describe(), purpose="a job"):
        pass
    kept.close()
    description = (address.home / "index.json").read_text()
    (address.home / "index.json").write_text(description.replace("f" * 32, "b" * 32))
    with pytest.raises(ModelMismatchError, match="was made anew by another model meanwhile"):
        kept.ask(lambda index: index.count())


def test_one_question_after_a_job_fails_and_the_next_finds_the_index(kept: KeptIndex, address: Address) -> None:
    with create_index(address, describe(), purpose="a job"), kept.using() as index:
        assert index.asked
    with pytest.raises(IndexLockedError, match="has ended meanwhile"), kept.using() as index:
        index.count()
    with kept.using() as index:
        assert (index.asked, index.count()) == (None, 3)


def test_a_job_gets_it_from_two_that_ask_all_the_time(address: Address) -> None:
    ended, failed = threading.Event(), []

    def ask(one: KeptIndex) -> None:
        while not ended.is_set():
            try:
                one.ask(lambda index: index.count())
            except IndexLockedError as error:
                failed.append(error)

    with KeptIndex(address, "one") as one, KeptIndex(address, "two") as other:
        asking = [threading.Thread(target=ask, args=(kept,)) for kept in (one, other)]
        for thread in asking:
            thread.start()
        try:
            for number in range(2):
                with create_index(address, describe(), purpose="a job") as writer:
                    writer.upsert(make_points(2, seed=number + 1))
        finally:
            ended.set()
            for thread in asking:
                thread.join(30)
        assert one.ask(lambda index: index.count()) == other.ask(lambda index: index.count()) == 7
    assert not failed


def test_roots_that_a_job_has_added_are_known(kept: KeptIndex, address: Address) -> None:
    assert kept.roots(0) == ("/archive",)
    with create_index(address, describe(), purpose="a job") as writer:
        writer.update_description(roots=("/archive", "/more"), model_path="/models/m.safetensors")
        assert kept.roots(1) == ("/archive", "/more")
