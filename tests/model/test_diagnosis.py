from __future__ import annotations

from importlib.metadata import PackageNotFoundError

import pytest

from model.decoders import ORDER, library
from model.diagnosis import check_decoders, check_torch


def test_every_transfer_syntax_has_its_decoders() -> None:
    checks = list(check_decoders())
    assert len(checks) == len(ORDER)
    assert {check.state for check in checks} == {"fine"}


def test_a_missing_library_is_named_with_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    def without_pyjpegls(name: str) -> str:
        if name == "pyjpegls":
            raise PackageNotFoundError(name)
        return library(name)

    monkeypatch.setattr("model.decoders.library", without_pyjpegls)
    checks = {check.name: check for check in check_decoders()}
    near = checks["decode JPEG-LS Lossy (Near-Lossless) Image Compression"]
    assert (near.state, near.advice) == ("note", "pip install pyjpegls")
    assert "imagecodecs" in checks["decode JPEG Baseline (Process 1)"].detail


def test_torch_is_there() -> None:
    assert [check.name for check in check_torch()] == ["PyTorch", "GPU"]
