"""When a PACS may be asked."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from workers.indexing.manners import Manners, Turns

NOON = datetime(2026, 11, 28, 12, tzinfo=UTC)


def test_turns_are_a_while_apart() -> None:
    turns = Turns(Manners(rate=10))
    waits = [turns.take(NOON, clock=5.0) for _ in range(4)]
    assert [round(wait, 3) for wait in waits] == [0, 0.1, 0.2, 0.3]
    assert turns.take(NOON, clock=9.0) == 0


def test_without_a_rate_nobody_waits() -> None:
    turns = Turns(Manners())
    assert [turns.take(NOON, clock=1.0) for _ in range(3)] == [0, 0, 0]


def test_the_night_is_waited_for() -> None:
    night = Manners(hours=(20, 6))
    assert night.closed_for(NOON) == 8 * 3600
    assert night.closed_for(NOON.replace(hour=23)) == 0
    assert night.closed_for(NOON.replace(hour=5, minute=59)) == 0
    assert night.closed_for(NOON.replace(hour=6)) == 14 * 3600
    day = Manners(hours=(9, 17))
    assert day.closed_for(NOON) == 0
    assert day.closed_for(NOON.replace(hour=18)) == 15 * 3600
    assert Turns(night).take(NOON, clock=100.0) == 8 * 3600


@given(st.integers(0, 23), st.integers(1, 24), st.timedeltas(timedelta(), timedelta(days=400)))
def test_after_the_wait_it_is_open(first: int, last: int, later: timedelta) -> None:
    manners, now = Manners(hours=(first, last)), NOON + later
    wait = manners.closed_for(now)
    assert 0 <= wait <= 24 * 3600
    if wait and first != last:
        assert manners.closed_for(now + timedelta(seconds=wait)) < 1
