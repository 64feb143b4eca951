"""``make demo``: the main job from end to end on real scanner files, with the commands that a user would type."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
import time
from pathlib import Path

import data_store
import pydicom
from rich.console import Console

ARCHIVES = {
    "pydicom": Path(pydicom.__file__).parent / "data" / "test_files",
    "pydicom-data": Path(data_store.__file__).parent / "data",
}

console = Console(highlight=False)


def main(folder: Path) -> None:
    """Make everything anew in ``folder``."""
    started = time.monotonic()
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    os.chdir(folder)
    for name, source in ARCHIVES.items():
        shutil.copytree(source, name, ignore=shutil.ignore_patterns("__pycache__", "*.py"))
    console.rule("real files")
    console.print(
        "DICOM files of many scanners, published with the Python packages pydicom and pydicom-data to test software:\n"
        "in 20 transfer syntaxes, some damaged on purpose, some no pictures at all. Nothing is trained: the bundled\n"
        "networks have never seen them, their head and probe four frames, and many show none of its 60 classes."
    )
    cbmir("model list")
    cbmir(f"index {' '.join(ARCHIVES)} --index index", expected=3)
    cbmir("status --index index")
    cbmir("search pydicom-data/RG1_UNCR.dcm --index index --top 5 --no-class-prediction --sheet answers.html")
    both = "pydicom-data/693_UNCR.dcm pydicom-data/MR-SIEMENS-DICOM-WithOverlays.dcm"
    cbmir(f"search {both} --index index --top 5 --no-class-prediction --sheet sheet.png --thumbnails")
    console.rule()
    seconds = time.monotonic() - started
    console.print(f"{seconds:.0f} s after the install. The answers are in {folder}: sheet.png and answers.html.")


def cbmir(*parts: str, expected: int = 0) -> None:
    """Show a command, run it as a user would, and see that it ends as it should."""
    command = " ".join(parts)
    console.rule(f"[bold]cbmir {command}", align="left")
    code = subprocess.run([Path(sys.executable).with_name("cbmir"), *shlex.split(command)], check=False).returncode
    if code != expected:
        sys.exit(f"the demo has failed: exit code {code} instead of {expected}")


if __name__ == "__main__":
    main(Path(sys.argv[1]).absolute())
