from __future__ import annotations

from pathlib import Path

import pytest

from tests.interruptions import interrupt, write_archive

pytestmark = pytest.mark.usefixtures("without_ray")


def test_whatever_is_killed_the_points_are_those_of_an_undisturbed_job(
    model_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CBMIR_STATE", str(tmp_path / "state"))
    # One job loses both: each costs the time of a Ray, and the others are for ``python -m tests.interruptions``.
    (outcome,) = interrupt(
        [("storing actor", "driver")], 0, write_archive(tmp_path / "archive", 72), model_path, tmp_path
    )
    assert outcome.startswith("storing actor, driver after ")
    assert "exit code -9" in outcome
