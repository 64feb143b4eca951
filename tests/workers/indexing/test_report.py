from __future__ import annotations

from workers.indexing.report import JobReport


def test_the_bottleneck_is_the_stage_whose_workers_are_busiest_not_the_one_with_most_seconds() -> None:
    seconds = {"discover": 2.0, "decode": 40.0, "embed": 120.0, "upsert": 90.0}
    report = JobReport([], "index", "model", "f", "now", seconds_indexing=100.0, stage_seconds=seconds)
    report.find_bottleneck({"decode": 1, "embed": 2})
    assert report.stage_busy == {"discover": 0.02, "decode": 0.4, "embed": 0.6, "upsert": 0.9}
    assert report.bottleneck == "upsert"
