"""Noticing that nothing moves any more; real nodes are lost in the tests of two hosts and of simulated clusters."""

from __future__ import annotations

import time

import pytest

from workers.indexing import stalling
from workers.indexing.stalling import StallWatch


def test_a_node_that_joined_later_is_missed_too(monkeypatch: pytest.MonkeyPatch) -> None:
    nodes = iter([{"head"}, {"head", "late"}])
    monkeypatch.setattr(stalling, "living_nodes", lambda: next(nodes, {"head"}))
    monkeypatch.setattr(stalling, "nodes_text", lambda: "1 of 2 Ray nodes answer, lost: late")
    monkeypatch.setattr(stalling, "SAID_SECONDS", 0.2)
    with pytest.raises(KeyboardInterrupt), StallWatch(lambda _seconds, _nodes: None, patience=60) as watch:
        time.sleep(20)
    assert (watch.node_lost, watch.gave_up) == ("1 of 2 Ray nodes answer, lost: late", None)


def test_nodes_that_stay_are_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []
    monkeypatch.setattr(stalling, "living_nodes", lambda: {"head", "other"})
    monkeypatch.setattr(stalling, "nodes_text", lambda: "2 of 2 Ray nodes answer")
    monkeypatch.setattr(stalling, "SAID_SECONDS", 0.2)
    with StallWatch(lambda _seconds, nodes: told.append(nodes), patience=60) as watch:
        time.sleep(0.7)
    assert watch.node_lost is None
    assert set(told) == {"2 of 2 Ray nodes answer"}
