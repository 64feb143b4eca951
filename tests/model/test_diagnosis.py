from __future__ import annotations

import pytest
from pydicom.uid import UID

from model.diagnosis import check_decoders, check_torch
from model.images.decoders import ORDER, library


def test_every_transfer_syntax_has_its_decoders() -> None:
    checks = list(check_decoders())
    assert len(checks) == len(ORDER)
    assert {check.state for check in checks} == {"fine"}


def test_a_missing_library_is_named_with_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    def without_pyjpegls(name: str, uid: UID) -> str:
        if name == "pyjpegls":
            raise ImportError(name)
        return library(name, uid)

    monkeypatch.setattr("model.images.decoders.library", without_pyjpegls)
    checks = {check.name: check for check in check_decoders()}
    near = checks["decode JPEG-LS Lossy (Near-Lossless) Image Compression"]
    assert (near.state, near.advice) == ("note", "pip install pyjpegls")
    assert "imagecodecs" in checks["decode JPEG Baseline (Process 1)"].detail


def test_torch_is_there() -> None:
    assert [check.name for check in check_torch()] == ["PyTorch", "GPU"]
