"""Small real indexes of random features, in every engine that is at hand."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from index.address import Address, parse_address
from index.engines import edge
from index.engines.engine import Index
from index.opening import create_index, open_index
from index.schema import Description, Location, Payload, Point, point_id
from model.images.frames import Header
from tests.support.stand_in.service import StandIn

WIDTH = 1024
"""Values of a layer: a quarter of the paper's, so that indexes are made four times as fast."""

ORGANS = ("brain", "chest", "knee")


def describe(**changes: object) -> Description:
    values: dict[str, object] = {
        "model_fingerprint": "f" * 32,
        "model_path": "/models/m.safetensors",
        "classes": ORGANS,
        "layers": ("fcl1",),
        "roots": ("/archive",),
    }
    layers, width = changes.get("layers", values["layers"]), changes.pop("width", WIDTH)
    assert isinstance(layers, tuple)
    assert isinstance(width, int)
    values["dimensions"] = dict.fromkeys(layers, width)
    return Description(**{**values, **changes})  # type: ignore[arg-type] # the values above


def make_points(count: int, *, seed: int = 0, layers: tuple[str, ...] = ("fcl1",), width: int = WIDTH) -> list[Point]:
    """Points around one centre an organ, four a series; the organ is also the label but for each tenth."""
    rng = np.random.default_rng(seed)
    centres = np.maximum(np.random.default_rng(99).normal(0, 1, (len(ORGANS), width)), 0)
    points = []
    for number in range(count):
        organ = number % len(ORGANS)
        label = ORGANS[(organ + (number % 10 == 9)) % len(ORGANS)]
        series = f"1.2.{organ}.{number // (4 * len(ORGANS))}"
        header = Header("CT" if number % 2 else "MR", None, f"1.9.{number}", series, f"{series}.0")
        payload = Payload(
            ORGANS[organ], ORGANS[organ], 0.9, label, header, 1, (Location(0, f"{ORGANS[organ]}/{number}.dcm"),)
        )
        vectors = {
            layer: np.maximum(centres[organ] + rng.normal(0, 0.5, width), 0).astype(np.float16) for layer in layers
        }
        points.append(Point(point_id(f"{seed}/{number}"), payload, vectors))
    return points


@pytest.fixture
def index(tmp_path: Path) -> Iterator[Index]:
    """An index of 60 points."""
    with create_index(parse_address(tmp_path / "index"), describe(), purpose="test") as opened:
        opened.upsert(make_points(60))
        yield opened


@dataclass
class Engine:
    """One place for one index."""

    name: str
    address: Address

    def create(self, description: Description) -> Index:
        return create_index(self.address, description, purpose="test")

    def open(self) -> Index:
        return open_index(self.address, purpose="test")


@pytest.fixture
def early_graphs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Embedded graphs over 0.5 MB of vectors and more, a fortieth of the usual: they differ in their size only."""
    monkeypatch.setattr(edge, "INDEXING_THRESHOLD_KB", 500)


@pytest.fixture
def server() -> Iterator[StandIn]:
    """A server that speaks Qdrant's gRPC and keeps its points in Qdrant Edge."""
    standing_in = StandIn()
    yield standing_in
    standing_in.discard()


@pytest.fixture(params=["edge", "wire", pytest.param("server", marks=pytest.mark.server)])
def engine(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Engine]:
    """Each engine in turn."""
    monkeypatch.setenv("CBMIR_STATE", str(tmp_path / "state"))
    match request.param:
        case "edge":
            yield Engine("edge", parse_address(tmp_path / "index"))
        case "wire":
            port = request.getfixturevalue("server").port
            yield Engine("wire", parse_address(f"http://127.0.0.1:1/test?grpc_port={port}"))
        case _:
            yield Engine("server", request.getfixturevalue("server_address"))
