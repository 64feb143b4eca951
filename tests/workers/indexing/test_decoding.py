from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import phantoms
from workers.guarded import deadline
from workers.indexing.decoding import DecoderProcess, decode_file


@pytest.fixture(autouse=True)
def _living_on() -> Iterator[None]:
    """Who decodes in its own process has to cancel the deadline, or is ended by it a minute later."""
    yield
    deadline.cancel()


def test_a_file_is_decoded_whole_or_left_out(archive: Path) -> None:
    rows = decode_file(7, str(archive / "brain" / "brain-cine.dcm"), 60)
    assert [(row["file"], row["frame"], row["of"]) for row in rows] == [(7, n, 4) for n in (1, 2, 3, 4)]
    [broken] = decode_file(8, str(archive / "knee" / "knee-broken.dcm"), 60)
    assert broken["file"] == 8
    assert broken["reason"] == "corrupt or truncated"


def test_frames_beyond_the_limit_are_refused(archive: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("workers.indexing.decoding.MAX_FRAMES", 3)
    [row] = decode_file(0, str(archive / "brain" / "brain-cine.dcm"), 60)
    assert row["reason"] == "too large"


def test_a_process_of_its_own_decodes_alike(archive: Path) -> None:
    path = str(archive / "eye" / "eye-002.dcm")
    with DecoderProcess() as apart:
        assert [apart.decode(n, path, 60) for n in (0, 1)] == [decode_file(n, path, 60) for n in (0, 1)]


def test_a_decoder_that_hangs_is_ended_and_named(archive: Path, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "hangs")  # whoever opens it waits for a writer that never comes
    with DecoderProcess() as apart:
        [row] = apart.decode(3, str(tmp_path / "hangs"), 1)
        assert apart.decode(4, str(archive / "eye" / "eye-002.dcm"), 60)[0]["identity"]  # the next one is decoded
    assert row["file"] == 3
    assert row["reason"] == "decoder crashed"
    assert "ran longer than 1 s" in row["detail"]


def test_a_decoder_that_ends_its_process_is_named(archive: Path, tmp_path: Path) -> None:
    phantoms.write_aborting(tmp_path / "aborts")
    with DecoderProcess() as apart:
        [row] = apart.decode(3, str(tmp_path / "aborts"), 60)
        assert apart.decode(4, str(archive / "eye" / "eye-002.dcm"), 60)[0]["identity"]
    assert row["reason"] == "decoder crashed"
    assert "exit code -6" in row["detail"]


def test_a_fault_of_the_reader_costs_one_file(archive: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def faulty(*_: object, **__: object) -> None:
        raise KeyError("PLANTED^NAME")

    monkeypatch.setattr("workers.indexing.decoding.read_each_frame", faulty)
    [row] = decode_file(1, str(archive / "eye" / "eye-002.dcm"), 60)
    assert (row["reason"], row["detail"]) == ("decoder crashed", "the reader failed: KeyError")
