"""Where the real images lie; tests that need them skip, saying so, where they are absent."""

from __future__ import annotations

from pathlib import Path
from typing import Final

SHARED: Final = Path(__file__).parents[3] / "shared" / "data"
