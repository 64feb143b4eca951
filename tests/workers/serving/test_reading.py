"""Pictures that come from outside."""

from __future__ import annotations

import os
import time
from pathlib import Path

import numpy as np
import pytest

from model.errors import ImageError
from model.images.reading import READ_ALL
from workers.serving import reading
from workers.serving.reading import KeptUploads, Readers, as_file


def end_this_process(*_: object) -> None:
    """What a decoder does with some files."""
    os._exit(3)


def hang(*_: object) -> None:
    """What a decoder does with others."""
    time.sleep(60)


def test_a_picture_that_ends_its_decoder_costs_itself_alone(archive: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    knee = str(archive / "knee" / "knee-001.dcm")
    with Readers(1) as readers:
        whole = readers.frame(knee, 1, READ_ALL)
        monkeypatch.setattr(reading, "FILE_SECONDS", 1.5)
        for fault in (end_this_process, hang):
            with monkeypatch.context() as patch:
                patch.setattr(reading, "read_frame", fault)
                with pytest.raises(ImageError, match="decoder crashed"):
                    readers.frame(knee, 1, READ_ALL)
        monkeypatch.setattr(reading, "FILE_SECONDS", 30.0)
        assert readers.frame(knee, 1, READ_ALL).identity == whole.identity
        part = readers.frame(knee, 1, READ_ALL, (0.5, 0.0, 0.5, 1.0))
        assert np.array_equal(part.pixels, whole.pixels[:, whole.pixels.shape[1] // 2 :])
        assert part.identity != whole.identity
    with pytest.raises(ImageError, match="the server is ending"):
        readers.frame(knee, 1, READ_ALL)


def test_uploads_are_forgotten_after_a_while_and_when_there_are_many() -> None:
    kept = KeptUploads(most_bytes=250, seconds=0.4)
    kept.keep("a", "a.dcm", bytes(100))
    kept.keep("b", "b.dcm", bytes(100))
    assert kept.get("a") == ("a.dcm", bytes(100))
    kept.keep("c", "c.dcm", bytes(100))
    assert (kept.get("a"), kept.get("c")) == (None, ("c.dcm", bytes(100)))
    time.sleep(0.6)
    assert kept._kept == {}  # also where nobody asks any more


def test_an_upload_lies_in_memory_and_is_gone_afterwards() -> None:
    with as_file(b"picture") as file:
        assert Path(file).read_bytes() == b"picture"
        assert not Path("/dev/shm").is_dir() or file.startswith("/dev/shm")
    assert not Path(file).exists()
