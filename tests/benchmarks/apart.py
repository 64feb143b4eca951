"""A measurement in a process of its own, which leaves its values as JSON."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]


def measure_apart(module: str, *arguments: object, output: Path, **environment: str) -> dict[str, Any]:
    """What ``python -m module arguments`` has written into ``output``; it runs in the project's folder."""
    command = [sys.executable, "-m", module, *map(str, arguments)]
    every = {**os.environ, "PYTHONPATH": str(ROOT), **environment}
    subprocess.run(command, check=True, cwd=ROOT, env=every, capture_output=True)
    values: dict[str, Any] = json.loads(output.read_text())
    return values
