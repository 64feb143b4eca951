from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from tests.support import phantoms
from tests.support.volumes import make_body, write_series


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("repository")
    rows = []
    for organ in phantoms.ORGANS:
        for number in range(6):
            name = f"{organ}<{number}>.png"
            Image.fromarray((phantoms.draw(organ, number, 64) * 255).astype(np.uint8)).save(folder / name)
            rows.append({"path": name, "label": organ, "split": "train" if number < 4 else "test"})
    pd.DataFrame(rows).to_csv(folder / "manifest.csv", index=False)
    return folder / "manifest.csv"


def test_the_report_is_whole_and_stands_alone(
    cbmir: Callable[..., int],
    manifest: Path,
    model_path: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    report = tmp_path / "report"
    assert cbmir("evaluate", manifest, "--model", model_path, "--report", report) == 0
    shown = capsys.readouterr()
    assert "accuracy" in shown.out
    assert "mAP" in shown.out
    assert "another list of images" in shown.err

    page = (report / "index.html").read_text()
    assert not re.search(r"""(?:src|href)\s*=\s*["'](?!data:|#)""", page)
    assert "<6>" not in page  # names are escaped
    assert "brain&lt;4&gt;.png" in page
    assert page.count("<svg") == 5
    record = json.loads((report / "report.json").read_text())
    wrong = 12 - sum(record["classification"]["measures"]["confusion"][n][n] for n in range(6))
    assert wrong > 0  # the model is untrained
    assert page.count('<figure class="query"') == 2 * 10
    misclassified = page[page.index("Misclassified") : page.index("<h2>Retrieval")]
    assert misclassified.count("<figure") == wrong
    assert len(record["retrieval"]) == 2 * 3 * 2 * 2
    assert all(len(one["interpolated_precision"]) == 101 for one in record["retrieval"])

    twin = (report / "report.md").read_text()
    for text in (page, twin):
        assert "nan" not in re.sub(r'base64,[^"]*"', "", text).lower().split()
        assert "99.77%" in text
        assert "0.690" in text
    for picture in re.findall(r"\]\((.*?\.svg)\)", twin):
        assert (report / picture).exists()
    curves = pd.read_csv(report / "precision-recall.csv")
    assert len(curves) == 12 * 24 + 12 * 36
    assert curves[["precision", "recall"]].notna().all(axis=None)


def test_leakage_and_strange_settings_are_refused_by_name(
    cbmir: Callable[..., int],
    manifest: Path,
    model_path: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    rows = pd.read_csv(manifest)
    rows["path"] = [str(manifest.parent / path) for path in rows["path"]]
    twice = pd.concat([rows, rows[:1].assign(split="test")])
    twice.to_csv(tmp_path / "twice.csv", index=False)
    assert cbmir("evaluate", tmp_path / "twice.csv", "--model", model_path) == 1
    assert "abdomen<0>.png' is in the training and in the test part" in capsys.readouterr().err
    rows.assign(group="one").to_csv(tmp_path / "group.csv", index=False)
    assert cbmir("evaluate", tmp_path / "group.csv", "--model", model_path) == 1
    assert "group 'one' is in the training and in the test part" in capsys.readouterr().err
    assert cbmir("evaluate", manifest, "--model", model_path, "--protocol", "some") == 2
    assert "'some' is not one of 'both'" in capsys.readouterr().err
    assert cbmir("evaluate", manifest, "--model", model_path, "--layers", "fcl9", "--report", tmp_path / "r") == 2
    assert "there is no layer 'fcl9'" in capsys.readouterr().err


def test_series_are_compared_by_every_pooling(
    cbmir: Callable[..., int], model_path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = ["path,label,group,series,split"]
    for kind in range(2):
        for person in range(2):
            name = f"{kind}{person}"
            write_series(tmp_path / name, make_body(kind, person), name, slices=8, side=24)
            rows += [f"{name}/{path.name},kind{kind},{name},s,test" for path in sorted((tmp_path / name).iterdir())]
    (tmp_path / "volumes.csv").write_text("\n".join(rows))
    report = tmp_path / "report"
    ask = ("evaluate", tmp_path / "volumes.csv", "--model", model_path, "--by", "series", "--runtime", "openvino")
    assert cbmir(*ask, "--report", report, "--layers", "fcl1,fcl2", "--workers", 0) == 0
    shown = capsys.readouterr().out
    assert "fcl2: 4 series among all 4" in shown
    record = json.loads((report / "report.json").read_text())
    assert [row["pooling"] for row in record["rows"]].count("ordered") == 2
    page = (report / "index.html").read_text()
    assert page.count("<td>ordered</td>") == 2
    for line in (report / "report.md").read_text().splitlines():
        assert not line.startswith("|") or line.count("|") == 9  # eight columns
    assert cbmir(*ask, "--report", report) == 2
    assert "is there already" in capsys.readouterr().err
    assert cbmir(*ask, "--report", report, "--force", "--layers", "fcl9") == 2
    assert "fcl9" in capsys.readouterr().err
    assert cbmir(*ask, "--report", report, "--force", "--protocol", "training-images") == 2
    assert "one way to search" in capsys.readouterr().err
