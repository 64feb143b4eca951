from __future__ import annotations

import socket
from pathlib import Path

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from model.errors import SettingError
from tests.support import phantoms
from tests.support.jobs import small_job
from workers.indexing.job import index_archive
from workers.indexing.metrics import Metrics, serve_metrics
from workers.indexing.settings import JobObserver, Observers, Progress


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def scrape(port: int) -> dict[tuple[str, ...], float]:
    text = httpx.get(f"http://127.0.0.1:{port}/metrics", timeout=60).text
    return {
        (sample.name, *sorted(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


class Scraper(JobObserver):
    """Asks as Prometheus would, at every step of the job."""

    def __init__(self, port: int) -> None:
        self.port, self.seen = port, list[dict[tuple[str, ...], float]]()

    def progress(self, progress: Progress) -> None:
        self.seen.append(scrape(self.port))


def test_a_running_job_answers_prometheus(archive: Path, model_path: Path, tmp_path: Path, without_ray: None) -> None:
    port = free_port()
    settings = small_job((archive,), model_path, tmp_path / "index")
    with serve_metrics(port, "127.0.0.1") as metrics:
        scraper = Scraper(port)
        index_archive(settings, Observers([metrics, scraper]))
    assert [seen["cbmir_job_stage", "starting"] for seen in scraper.seen][:1] == [1]
    last = scraper.seen[-1]
    assert last["cbmir_job_stage", "done"] == 1
    assert last["cbmir_files_total", "indexed"] == 25
    assert (
        last["cbmir_files_total", "left out"] == last["cbmir_images_total", *sorted(("decode", "file left out"))] == 1
    )
    images = len(phantoms.ORGANS) * 4 + 4
    assert {last["cbmir_images_total", *sorted((stage, "done"))] for stage in ("decode", "embed", "upsert")} == {images}
    assert min(last["cbmir_stage_seconds_total", stage] for stage in ("decode", "embed", "upsert")) > 0
    assert {value for (name, *_), value in last.items() if name == "cbmir_queue_length"} == {0}
    with pytest.raises(httpx.ConnectError):
        scrape(port)


def test_a_port_that_is_taken_is_said() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with (
            pytest.raises(SettingError, match=f"--metrics-port {port}: nothing can listen"),
            serve_metrics(port, "127.0.0.1"),
        ):
            pass


def test_there_is_nothing_to_tell_before_a_job_begins() -> None:
    assert list(Metrics().collect()) == []
