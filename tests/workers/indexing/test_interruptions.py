from __future__ import annotations

from pathlib import Path

import pytest

from tests.interruptions import VICTIMS, interrupt

pytestmark = pytest.mark.usefixtures("without_ray")


def test_whatever_is_killed_the_points_are_those_of_an_undisturbed_job(
    model_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CBMIR_STATE", str(tmp_path / "state"))
    victims = VICTIMS[:2]
    outcomes = list(interrupt(len(victims), 0, 72, model_path, tmp_path))
    assert [outcome.split(" after ")[0] for outcome in outcomes] == list(victims)
