"""A network whose fully connected layers are narrow: its training is the same, and takes a tenth of time and memory."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

NARROW = 256


@pytest.fixture(scope="module")
def narrow_layers() -> Iterator[None]:
    """FCL1-3 of 256 units instead of 4,096, for tests of what is done with a network and not of its size."""
    with pytest.MonkeyPatch.context() as patch:
        for module in ("network.architecture", "training.calibrate"):
            patch.setattr(f"model.{module}.FEATURES", NARROW)
        yield
