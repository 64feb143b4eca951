from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from model.errors import CheckpointError
from model.network.checkpoint import fingerprint, load_network, save_tensors
from model.network.metadata import read_metadata
from tests.support import phantoms


def test_a_checkpoint_brings_back_the_network(model_path: Path) -> None:
    network, metadata = load_network(model_path)
    assert metadata.classes == tuple(phantoms.ORGANS)
    assert fingerprint(network.state_dict(), metadata.classes) == metadata.fingerprint
    assert not network.training


def test_fingerprints_tell_models_apart(model_path: Path, other_model_path: Path) -> None:
    weights = load_file(model_path)
    assert read_metadata(model_path).fingerprint != read_metadata(other_model_path).fingerprint
    assert fingerprint(weights, "abcdef") != fingerprint(weights, "abcdeg")


def rewrite(source: Path, target: Path, **changes: object) -> Path:
    """The checkpoint of ``source`` with other metadata."""
    values = {"format": 1, "classes": ["a", "b"], "fingerprint": "0" * 32, **changes}
    save_file({"x": torch.zeros(1)}, target, {"cbmir": json.dumps(values)})
    return target


def test_foreign_and_damaged_files_are_refused(tmp_path: Path) -> None:
    cases = {
        "does not exist": tmp_path / "absent",
        "is no model file": tmp_path / "text",
        "was not written by": tmp_path / "foreign",
        "format 99": rewrite(tmp_path, tmp_path / "future", format=99),
        "other preprocessing": rewrite(tmp_path, tmp_path / "other", preprocessing="none"),
        "classes is no list": rewrite(tmp_path, tmp_path / "classes", classes=None),
        "no field 'later'": rewrite(tmp_path, tmp_path / "later", later=1),
        "unexpected keyword": rewrite(tmp_path, tmp_path / "calibration", calibration={"warmth": 1}),
    }
    cases["is no model file"].write_text("words")
    save_file({"x": torch.zeros(1)}, cases["was not written by"])
    for message, path in cases.items():
        with pytest.raises(CheckpointError, match=message):
            read_metadata(path)
    with pytest.raises(CheckpointError, match="does not hold this network's weights"):
        load_network(rewrite(tmp_path, tmp_path / "empty"))


def test_a_file_that_was_cut_off_anywhere_is_refused(model_path: Path, tmp_path: Path) -> None:
    whole = model_path.read_bytes()
    header = 8 + int.from_bytes(whole[:8], "little")
    for size in (0, 1, 8, 9, header - 1, header, header + 1, len(whole) - 1):
        (tmp_path / "cut").write_bytes(whole[:size])
        with pytest.raises(CheckpointError, match="is no model file, or is damaged"):
            read_metadata(tmp_path / "cut")


def test_a_header_is_read_as_the_library_reads_it(model_path: Path) -> None:
    with safe_open(model_path, framework="numpy") as file:
        stored = json.loads(file.metadata()["cbmir"])
    assert read_metadata(model_path).fingerprint == stored["fingerprint"]
    assert read_metadata(model_path).classes == tuple(stored["classes"])


@given(
    st.binary(max_size=40),
    st.recursive(st.none() | st.integers() | st.text(), lambda s: st.lists(s) | st.dictionaries(st.text(), s)),
)
def test_no_bytes_are_taken_for_a_model(tmp_path_factory: pytest.TempPathFactory, tail: bytes, header: object) -> None:
    path = tmp_path_factory.getbasetemp() / "wild"
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + tail)
    with pytest.raises(CheckpointError):
        read_metadata(path)


def test_a_pickle_is_never_loaded(tmp_path: Path) -> None:
    torch.save({"x": torch.zeros(1)}, tmp_path / "pickle")
    with pytest.raises(CheckpointError, match="is no model file"):
        load_network(tmp_path / "pickle")


def test_writing_into_nowhere_is_one_clear_error(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="cannot be written"):
        save_tensors(tmp_path / "absent" / "model", {"x": torch.zeros(1)}, {})


def test_the_file_can_be_read_by_others(model_path: Path) -> None:
    assert model_path.stat().st_mode & 0o044
