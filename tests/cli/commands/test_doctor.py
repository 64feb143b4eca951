from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from tests.support import phantoms

pytestmark = pytest.mark.usefixtures("ray_here")


def test_doctor_finds_everything_here(cbmir: Callable[..., int], capsys: pytest.CaptureFixture[str]) -> None:
    assert cbmir("doctor") == 0
    out = capsys.readouterr().out
    for name in ("Python", "decode RLE Lossless", "PyTorch", "Qdrant Edge", "disk", "Ray "):
        assert name in out
    assert "2 CPUs" in out


def test_doctor_says_what_is_lacking(cbmir: Callable[..., int], capsys: pytest.CaptureFixture[str]) -> None:
    assert cbmir("doctor", "--index", "http://127.0.0.1:1") == 1
    assert "lacking  Qdrant server http://127.0.0.1:1/cbmir: no answer" in capsys.readouterr().out


def test_inspect_shows_what_the_reader_sees(
    cbmir: Callable[..., int], tmp_path: Path, model_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ds = phantoms.dicom([phantoms.draw("knee", 1)], "knee", 1)
    ds.PatientName = "Secret^Anna"
    ds.save_as(tmp_path / "a.dcm", enforce_file_format=True)
    assert cbmir("inspect", tmp_path / "a.dcm", "--model", model_path, "--save", tmp_path / "a.png") == 0
    out = capsys.readouterr().out
    for text in ("transfer syntax", "Explicit VR Little Endian", "1 of 1, 256 × 256", "predicted", "displayed by"):
        assert text in out
    assert "Secret" not in out
    assert len(out.splitlines()) > 20  # the picture
    with Image.open(tmp_path / "a.png") as picture:
        assert picture.size == (256, 256)


def test_inspect_says_why_a_file_is_left_out(
    cbmir: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "notes.dcm").write_text("no image")
    assert cbmir("inspect", tmp_path / "notes.dcm") == 1
    assert "not an image" in capsys.readouterr().err


def test_a_cluster_without_processors_is_lacking(monkeypatch: pytest.MonkeyPatch) -> None:
    import ray

    from workers.diagnosis import check_ray

    monkeypatch.setattr(ray, "cluster_resources", dict)
    [check] = check_ray(None)
    assert (check.state, check.detail) == ("lacking", "the cluster has no processors")
