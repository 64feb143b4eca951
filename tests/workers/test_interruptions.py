from __future__ import annotations

from pathlib import Path

from tests.interruptions import VICTIMS, interrupt


def test_whatever_is_killed_the_points_are_those_of_an_undisturbed_job(model_path: Path, tmp_path: Path) -> None:
    victims = VICTIMS[:3]
    outcomes = list(interrupt(len(victims), 0, 240, model_path, tmp_path))
    assert [outcome.split(" after ")[0] for outcome in outcomes] == list(victims)
