"""What figures were measured on."""

from __future__ import annotations

import os
import platform
from importlib.metadata import version


def environment() -> str:
    """Cores and versions, in one line."""
    versions = " · ".join(f"{name} {version(name)}" for name in ("cbmir", "torch", "qdrant-edge-py", "pydicom"))
    return f"{os.cpu_count()} cores · Python {platform.python_version()} · {versions}"
