from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from model.dataset.tables import write_table
from tests.model.dataset.bucket_server import serve
from tests.model.dataset.test_manifest import pictures

Cbmir = Callable[..., int]


def test_a_plan_is_fetched_split_trained_indexed_and_searched(
    cbmir: Cbmir, without_ray: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, model, index = tmp_path / "set", tmp_path / "model.safetensors", tmp_path / "index"
    with serve({"brain": 3, "knee": 3}, series=1, slices=2) as server:
        write_table(server.plan, tmp_path / "plan.csv")
        assert cbmir("dataset", "fetch", tmp_path / "plan.csv", folder, "--endpoint", server.endpoint) == 0
        assert "12 images, 12 of them fetched now" in capsys.readouterr().out
        server.plan.loc[0, "address"] = "s3://idc-open-data/gone/"
        write_table(server.plan, tmp_path / "moved.csv")
        assert cbmir("dataset", "fetch", tmp_path / "moved.csv", tmp_path / "other", "--endpoint", server.endpoint) == 3
        assert "left out: s3://idc-open-data/gone/ holds nothing" in capsys.readouterr().err
    eyes = pictures(tmp_path / "eyes", "eye", 4)
    assert cbmir("dataset", "add", folder, "--class", "eye", eyes) == 0
    assert cbmir("dataset", "split", folder, "--test", "0.3") == 0
    assert "images test" in capsys.readouterr().out
    assert cbmir("dataset", "cite", folder) == 0
    assert "4D Lung" in (folder / "ATTRIBUTION.md").read_text()
    manifest = folder / "manifest.csv"
    assert (
        cbmir("train", manifest, "--epochs", 1, "--validation", 0, "--workers", 0, "--output", model, "--width", 64)
        == 0
    )
    assert cbmir("index", folder, "--labels", manifest, "--model", model, "--index", index) == 3
    capsys.readouterr()
    query = next(folder.rglob("*.dcm"))
    widely = ("--no-class-prediction", "--any-modality", "--top", 20)
    assert cbmir("search", query, "--index", index, "--format", "json", *widely) == 0
    (answer,) = json.loads(capsys.readouterr().out)
    assert len(answer["hits"]) == 15
    assert {hit["label"] for hit in answer["hits"]} == {"brain", "knee", "eye"}


def test_a_plan_from_the_real_index(cbmir: Cbmir, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "own.yaml").write_text("classes: {thyroid: {collections: [tcga_thca], modalities: [CT]}}")
    plan = tmp_path / "plan.csv"
    assert cbmir("dataset", "plan", tmp_path / "own.yaml", "--per-class", 5, "--output", plan) == 0
    assert "5 slices of 5 series" in capsys.readouterr().out
    assert cbmir("dataset", "cite", plan) == 0
    assert "TCGA-THCA" in (tmp_path / "ATTRIBUTION.md").read_text()
    assert cbmir("dataset", "plan", "paper25", "--output", tmp_path / "other.csv") == 1
    assert cbmir("dataset", "add", tmp_path, "--class", "eye", tmp_path, tmp_path) == 2
    assert "give --class NAME FOLDER" in capsys.readouterr().err
