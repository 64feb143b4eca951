"""An indexing job in a process of its own, its embedded frames noted over time: ``python -m tests.benchmarks.job``."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

from index.address import parse_address
from model.network.heads import default_layers
from workers.indexing.job import index_archive
from workers.indexing.settings import JobObserver, JobSettings, Progress


class Timeline(JobObserver):
    """Notes when how many frames were embedded, and when the graph was begun."""

    def __init__(self) -> None:
        self.embedded: list[tuple[float, int]] = []
        self.optimizing: float | None = None

    def progress(self, progress: Progress) -> None:
        """Note one moment."""
        if progress.stages:
            self.embedded.append((time.time(), progress.stages.embedded_frames))
        if progress.stage == "optimizing":
            self.optimizing = time.time()


def main(archive: str, index: str, model: str, output: str) -> None:
    """Index, and write the timeline and the report."""
    started, timeline = time.time(), Timeline()
    layers = default_layers(Path(model))
    report = index_archive(JobSettings((Path(archive),), parse_address(Path(index)), Path(model), layers), timeline)
    values = {
        "started": started,
        "embedded": timeline.embedded,
        "optimizing": timeline.optimizing,
        "ended": time.time(),
        "report": json.loads(report.to_json(files=False)),
    }
    Path(output).write_text(json.dumps(values))


if __name__ == "__main__":
    main(*sys.argv[1:])
