"""Indexing jobs over a few files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from index.address import parse_address
from workers.indexing.settings import JobSettings, Machine


def small_job(archives: tuple[Path | str, ...], model: Path, index: str | Path, **more: Any) -> JobSettings:
    """Settings of a job over a few files.

    Its time is that of starting its actors: one is enough, and OpenVINO starts in a third of torch's time.
    """
    machine = Machine(actors=(1, 1), runtime="openvino")
    return JobSettings(archives, parse_address(index), model, **{"machine": machine, **more})
