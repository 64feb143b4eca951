from __future__ import annotations

import json
from collections.abc import Callable
from html import unescape
from pathlib import Path

import pytest

from tests.support import phantoms


def test_folds_are_reported_and_not_trained_twice(
    cbmir: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "repository"
    for organ in ("chest", "knee"):
        (folder / organ).mkdir(parents=True)
        for number in range(9):
            ds = phantoms.dicom([phantoms.draw(organ, number, 64)], organ, number)
            ds.save_as(folder / organ / str(number), enforce_file_format=True)
    (folder / "knee" / "5-broken").write_bytes((folder / "knee" / "0").read_bytes()[:-999])
    report = tmp_path / "report"
    command = ("cross-validate", folder, "--folds", 2, "--epochs", 1, "--width", 64, "--report", report)
    assert cbmir(*command) == 3
    printed = capsys.readouterr()
    assert "mean ± sd" in printed.out
    assert printed.err.count("left out:") == printed.err.count("5-broken") == 1
    record = json.loads((report / "report.json").read_text())
    assert sum(map(sum, record["confusion"])) == 12  # 30 % are the test part, which is left alone
    page = (report / "index.html").read_text()
    assert "2-fold cross-validation" in page
    assert "knee" in (report / "report.md").read_text()
    [text] = record["left_out"]
    for name in ("index.html", "report.md"):
        assert f"left out: {text}" in unescape((report / name).read_text())
    before = {path.name: path.stat().st_mtime_ns for path in report.glob("fold-*")}
    assert set(before) == {"fold-01.json", "fold-02.json"}
    assert cbmir(*command) == 2  # the report is there
    assert cbmir(*command, "--force") == 3
    assert {path.name: path.stat().st_mtime_ns for path in report.glob("fold-*")} == before
    assert cbmir(*command, "--seed", 1, "--force") == 2
    assert "other files or settings" in capsys.readouterr().err
