"""Small real indexes: Qdrant Edge shards of random features."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from index.interface import Index
from index.opening import create_index
from index.schema import Description, Location, Payload, Point, point_id
from model.frames import Header

ORGANS = ("brain", "chest", "knee")


def describe(**changes: object) -> Description:
    values: dict[str, object] = {
        "model_fingerprint": "f" * 32,
        "model_path": "/models/m.safetensors",
        "classes": ORGANS,
        "layers": ("fcl1",),
        "roots": ("/archive",),
    }
    return Description(**{**values, **changes})  # type: ignore[arg-type] # the values above


def make_points(count: int, *, seed: int = 0, layers: tuple[str, ...] = ("fcl1",)) -> list[Point]:
    """Points around one centre an organ, four a series; the organ is also the label but for each tenth."""
    rng = np.random.default_rng(seed)
    centres = np.maximum(np.random.default_rng(99).normal(0, 1, (len(ORGANS), 4096)), 0)
    points = []
    for number in range(count):
        organ = number % len(ORGANS)
        label = ORGANS[(organ + (number % 10 == 9)) % len(ORGANS)]
        series = f"1.2.{organ}.{number // (4 * len(ORGANS))}"
        header = Header("CT" if number % 2 else "MR", None, f"1.9.{number}", series, f"{series}.0")
        payload = Payload(ORGANS[organ], 0.9, label, header, 1, (Location(0, f"{ORGANS[organ]}/{number}.dcm"),))
        vectors = {
            layer: np.maximum(centres[organ] + rng.normal(0, 0.5, 4096), 0).astype(np.float16) for layer in layers
        }
        points.append(Point(point_id(f"{seed}/{number}"), payload, vectors))
    return points


@pytest.fixture
def index(tmp_path: Path) -> Iterator[Index]:
    """An index of 60 points."""
    with create_index(tmp_path / "index", describe(), purpose="test") as opened:
        opened.upsert(make_points(60))
        yield opened
