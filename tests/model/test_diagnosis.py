from __future__ import annotations

import pytest

from model.decoders import ORDER
from model.diagnosis import check_decoders, check_torch


def test_every_transfer_syntax_has_its_decoders() -> None:
    checks = list(check_decoders())
    assert len(checks) == len(ORDER)
    assert {check.state for check in checks} == {"fine"}


def test_a_missing_library_is_named_with_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pydicom.pixels.decoders.pyjpegls.is_available", lambda _uid: False)
    checks = {check.name: check for check in check_decoders()}
    near = checks["decode JPEG-LS Lossy (Near-Lossless) Image Compression"]
    assert (near.state, near.advice) == ("note", "pip install pyjpegls")
    monkeypatch.setattr("pydicom.pixels.decoders.gdcm.is_available", lambda _uid: False)
    assert "imagecodecs" in checks["decode JPEG Baseline (Process 1)"].detail
    monkeypatch.undo()
    list(check_decoders())  # puts the decoders back


def test_torch_is_there() -> None:
    assert [check.name for check in check_torch()] == ["PyTorch", "GPU"]
