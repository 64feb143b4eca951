from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ray.data import Dataset

from index.ledger import FileKey
from model.images.reading import READ_ALL
from model.network.metadata import read_metadata
from model.network.preparation import PAPER
from tests.support import phantoms
from workers.cluster import Resources, share_resources
from workers.indexing import pipeline
from workers.indexing.counters import Counters
from workers.indexing.pipeline import SHARD_FILES, RepositorySource, build_dataset, run_pipeline
from workers.indexing.planning import PendingFile
from workers.indexing.stages import Network


@pytest.fixture
def counters(ray_here: None) -> Iterator[Any]:
    import ray

    counters = ray.remote(num_cpus=0)(Counters).remote()
    yield counters
    ray.kill(counters)


def pending(*paths: Path) -> list[PendingFile]:
    return [PendingFile(FileKey(0, "", path.name), str(path), str(path), 1, 1, None) for path in paths]


def source(files: list[PendingFile], counters: Any, *, seconds: float = 60) -> RepositorySource:
    return RepositorySource(
        files, 0, actors=2, file_seconds=seconds, options=READ_ALL, prepare=PAPER, counters=counters
    )


def network(model_path: Path) -> Network:
    return Network(str(model_path), read_metadata(model_path).fingerprint, ("fcl1",))


def test_shards_hold_every_file_once(archive: Path) -> None:
    files = pending(*[archive / str(number) for number in range(SHARD_FILES * 8 + 1)])
    shards = RepositorySource(
        files, 5, actors=2, file_seconds=60, options=READ_ALL, prepare=PAPER, counters=None
    ).shards
    assert [shard.number for shard in shards] == list(range(5, 14))
    assert [number for shard in shards for number, _ in shard.files] == list(range(len(files)))


def test_every_file_comes_out_once(
    archive: Path, model_path: Path, counters: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    import ray

    built: list[Dataset] = []

    def noted(*arguments: Any) -> Dataset:
        built.append(build_dataset(*arguments))
        return built[-1]

    monkeypatch.setattr(pipeline, "build_dataset", noted)
    files = pending(*sorted(archive.rglob("*.dcm")))
    resources = share_resources(2, 0, actors=(1, 2), actor_gpus=None, batch_size=5)
    rows = [
        row
        for t in run_pipeline(source(files, counters), network(model_path), resources, counters, debug=False)
        for row in t.to_pylist()
    ]
    assert {row["file"] for row in rows} == set(range(len(files)))
    assert len(rows) == len(files) + 3  # the cine has four frames
    assert [Path(files[row["file"]].address).name for row in rows if row["reason"]] == ["knee-broken.dcm"]
    counts = ray.get(counters.counts.remote())
    assert (counts.decoded_frames, counts.left_out_files, counts.embedded_frames) == (len(rows) - 1, 1, len(rows) - 1)

    stages = [line for line in built[0].stats().splitlines() if line.startswith("Operator")]
    assert len(stages) == 2  # they are not fused
    assert "ReadRepository" in stages[0]
    assert "EmbeddingActor" in stages[1]
    assert not [line for line in stages if "->" in line]


def test_files_that_hang_or_end_their_decoder_cost_only_themselves(
    archive: Path, model_path: Path, counters: Any, tmp_path: Path
) -> None:
    hanging, aborting = tmp_path / "hangs.dcm", tmp_path / "aborts"
    os.mkfifo(hanging)
    phantoms.write_aborting(aborting)
    files = pending(archive / "eye" / "eye-000.dcm", hanging, aborting, archive / "eye" / "eye-001.dcm")
    resources = share_resources(2, 0, actors=(1, 1), actor_gpus=None, batch_size=8)
    tables = run_pipeline(source(files, counters, seconds=2), network(model_path), resources, counters, debug=False)
    rows = {row["file"]: row["reason"] for table in tables for row in table.to_pylist()}
    assert rows == {0: None, 1: "decoder crashed", 2: "decoder crashed", 3: None}


def test_resources_name_their_device() -> None:
    assert Resources((1, 1), 1, 0.5, 1, 0.5, 1, 8).device == "cuda"
