"""The package as users install it: a wheel in an environment of its own, away from the clone."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

from tests.support import phantoms

ROOT = Path(__file__).parents[1]


def run(*words: str | Path, cwd: Path) -> str:
    there = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    done = subprocess.run(list(map(str, words)), cwd=cwd, env=there, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_a_wheel_indexes_and_searches(tmp_path: Path) -> None:
    scans, empty = tmp_path / "scans", tmp_path / "empty"
    for folder in (scans, empty):
        folder.mkdir()
    for number in range(3):
        ds = phantoms.dicom([phantoms.draw("eye", number, 64)], "eye", number)
        ds.save_as(scans / f"{number}.dcm", enforce_file_format=True)
    run(sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", tmp_path, ROOT, cwd=empty)
    [wheel] = tmp_path.glob("cbmir-*.whl")
    venv.create(tmp_path / "env", with_pip=False)
    python = tmp_path / "env" / "bin" / "python"
    own = Path(run(python, "-c", "import site; print(site.getsitepackages()[0])", cwd=empty).strip())
    pip = (sys.executable, "-m", "pip", "--python", python)  # of the new environment: this one keeps what it has
    run(*pip, "install", "--quiet", "--no-deps", wheel, cwd=empty)
    # What it depends on is that of this environment, which took minutes to install.
    (own / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    program = tmp_path / "env" / "bin" / "cbmir"
    where = run(python, "-c", "import cli, index, model, workers as w; print(cli, index, model, w)", cwd=empty)
    assert where.count(str(own)) == 4
    made = run(program, "index", scans, "--index", "my-index", "--actors", "1:1", cwd=empty)
    assert "3 files indexed as 3 points" in made
    search = ("search", scans / "0.dcm", "--index", "my-index", "--top", "2", "--no-class-prediction")
    assert "1.dcm" in run(program, *search, cwd=empty)
    assert "organs24" in run(program, "model", "list", cwd=empty)
