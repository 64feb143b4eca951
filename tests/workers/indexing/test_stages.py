from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from model.errors import JobError
from model.images.reading import read_frames
from model.network.preparation import PAPER, Preparation
from tests.support.models import NARROW, prepared
from workers.indexing.rows import FEATURE, frame_row, frames_schema, left_out_row, to_array
from workers.indexing.stages import BLOCK_BYTES, EmbeddingActor, Network, rows_a_block


class NoCounters:
    """Stands where a job's counters are told of embedded frames."""

    def __getattr__(self, name: str) -> Any:
        return self

    def __call__(self, *_: object) -> None:
        pass


@pytest.mark.parametrize("runtime", ["torch", "openvino"])
def test_the_actor_embeds_frames_and_passes_on_what_was_left_out(archive: Path, model_path: Path, runtime: str) -> None:
    from model.network.embedder import Embedder
    from model.network.metadata import read_metadata

    fingerprint = read_metadata(model_path).fingerprint
    actor = EmbeddingActor(Network(str(model_path), fingerprint, ("fcl1", "fcl2"), runtime), "cpu", 2, NoCounters())
    frames = [next(read_frames(archive / organ / f"{organ}-001.dcm")) for organ in ("eye", "knee")]
    inputs = [prepared(frame.pixels) for frame in frames]
    from model.errors import Reason

    rows = [
        frame_row(0, frames[0], inputs[0]),
        left_out_row(1, Reason.CORRUPT, "half"),
        frame_row(2, frames[1], inputs[1]),
    ]
    result = actor(pa.Table.from_pylist(rows, frames_schema(PAPER)))
    by_file = {row["file"]: row for row in result.to_pylist()}
    assert by_file[1]["reason"] == Reason.CORRUPT.value
    expected = Embedder.load(model_path).embed(np.stack(inputs), ("fcl1", "fcl2"))
    for place, file in enumerate((0, 2)):
        assert by_file[file]["identity"] == frames[place].identity
        assert by_file[file]["best_guess"] == expected.probabilities[place].argmax()
        stored = np.frombuffer(by_file[file]["fcl2"], FEATURE)
        assert np.allclose(stored, expected.features["fcl2"][place], rtol=2e-3, atol=1e-3)
    nothing = actor(pa.Table.from_pylist([left_out_row(5, Reason.EMPTY_FILE, "")], frames_schema(PAPER)))
    assert nothing.num_rows == 1
    assert to_array(result.filter(pa.compute.is_null(result["reason"]))["fcl1"], FEATURE, (NARROW,)).shape == (
        2,
        NARROW,
    )


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e6])  # the last is infinite as float16
def test_features_that_are_not_finite_are_marked_at_their_own_row(
    archive: Path, model_path: Path, value: float
) -> None:
    from model.network.metadata import read_metadata

    network = Network(str(model_path), read_metadata(model_path).fingerprint, ("fcl1",))
    actor = EmbeddingActor(network, "cpu", 2, NoCounters())
    embed = actor._embedder.embed

    def broken(images: Any, layers: Any) -> Any:
        embeddings = embed(images, layers)
        embeddings.features["fcl1"][1, 100] = value
        return embeddings

    actor._embedder.embed = broken  # type: ignore[method-assign,assignment] # a network that overflows
    frame = next(read_frames(archive / "eye" / "eye-001.dcm"))
    rows = [frame_row(number, frame, prepared(frame.pixels)) for number in range(3)]
    result = actor(pa.Table.from_pylist(rows, frames_schema(PAPER)))
    assert result["reason"].to_pylist() == [None, "features not finite", None]


def test_a_replaced_model_is_refused(model_path: Path) -> None:
    with pytest.raises(JobError, match="was replaced"):
        EmbeddingActor(Network(str(model_path), "0" * 32, ("fcl1",)), "cpu", 1, NoCounters())


def test_a_process_that_is_no_worker_of_ray_keeps_its_exit_code(model_path: Path) -> None:
    script = (
        "import sys\nfrom model.network.metadata import read_metadata\n"
        "from workers.indexing.stages import EmbeddingActor, Network\n"
        f"model = {str(model_path)!r}\n"
        "fingerprint = read_metadata(model).fingerprint\n"
        "EmbeddingActor(Network(model, fingerprint, ('fcl1',), 'openvino'), 'cpu', 1, None)\nsys.exit(7)"
    )
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 7


def test_blocks_of_large_frames_hold_fewer_of_them() -> None:
    large = Preparation(518, 518, channels=3)
    assert rows_a_block(PAPER) == 256
    assert 10 < rows_a_block(large) < 30
    assert rows_a_block(large) * large.bytes <= BLOCK_BYTES
