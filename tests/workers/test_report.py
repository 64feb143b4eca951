from __future__ import annotations

from workers.report import JobReport


def report(**values: object) -> JobReport:
    return JobReport([], "index", "model", "f", "now", **values)  # type: ignore[arg-type]


def test_the_bottleneck_is_the_stage_whose_workers_are_busiest_not_the_one_with_most_seconds() -> None:
    slow_sink = report(
        seconds_indexing=100.0,
        stage_seconds={"discover": 2.0, "decode": 40.0, "embed": 120.0, "upsert": 90.0},
    )
    slow_sink.find_bottleneck({"decode": 1, "embed": 2})
    assert slow_sink.stage_busy == {"discover": 0.02, "decode": 0.4, "embed": 0.6, "upsert": 0.9}
    assert slow_sink.bottleneck == "upsert"
