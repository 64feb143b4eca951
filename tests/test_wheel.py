"""The package as users install it: a wheel in an environment of its own, away from the clone.

It runs where nothing is as at home: TMPDIR is none for sockets, the home cannot be written (a read-only root, Slurm),
and the user's own modules are called as the program's packages are.
"""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest

from tests.support import phantoms

ROOT = Path(__file__).parents[1]


def run(*words: str | Path, cwd: Path, **environment: str) -> str:
    there = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")} | environment
    done = subprocess.run(list(map(str, words)), cwd=cwd, env=there, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "dashboard" not in done.stderr
    return done.stdout


def test_a_wheel_indexes_and_searches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scans, empty = tmp_path / "scans", tmp_path / "empty"
    for folder in (scans, empty):
        folder.mkdir()
    monkeypatch.delenv("RAY_AUTH_TOKEN", raising=False)
    monkeypatch.delenv("RAY_TMPDIR", raising=False)
    for number in range(3):
        ds = phantoms.dicom([phantoms.draw("eye", number, 64)], "eye", number)
        ds.save_as(scans / f"{number}.dcm", enforce_file_format=True)
    uv = Path(sys.executable).with_name("uv")
    run(uv, "build", "--quiet", "--wheel", "--out-dir", tmp_path, ROOT, cwd=empty)
    [wheel] = tmp_path.glob("cbmir-*.whl")
    venv.create(tmp_path / "env", with_pip=False)
    python = tmp_path / "env" / "bin" / "python"
    own = Path(run(python, "-c", "import site; print(site.getsitepackages()[0])", cwd=empty).strip())
    run(uv, "pip", "install", "--quiet", "--no-deps", "--python", python, wheel, cwd=empty)
    # What it depends on is that of this environment, which took minutes to install.
    (own / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    program = tmp_path / "env" / "bin" / "cbmir"
    where = run(python, "-c", "import cli, index, model, workers as w; print(cli, index, model, w)", cwd=empty)
    assert where.count(str(own)) == 4
    home = _strange_home(tmp_path)
    there = {"HOME": "/proc", "TMPDIR": os.path.relpath(tmp_path / ("long" * 25) / "ü", home)}
    there["RAY_DASHBOARD_STARTUP_TIMEOUT_S"] = "0"  # nobody has asked for one
    made = run(program, "index", scans, "--index", "my-index", "--actors", "1:1", cwd=home, **there)
    assert "3 files indexed as 3 points" in made
    search = ("search", scans / "0.dcm", "--index", "my-index", "--top", "2", "--no-class-prediction")
    assert "1.dcm" in run(program, *search, cwd=home, **there)
    assert "organs24" in run(program, "model", "list", cwd=home)


def _strange_home(folder: Path) -> Path:
    home = folder / "home"
    (home / "index").mkdir(parents=True)
    (home / "dl").mkdir()  # python-gdcm's import breaks on it when the working directory is on the path
    for name in ("model.py", "workers.py", "cli.py", "index/__init__.py"):
        (home / name).write_text("raise SystemExit('the user\\'s own module was imported')\n")
    (folder / ("long" * 25) / "ü").mkdir(parents=True)
    return home
