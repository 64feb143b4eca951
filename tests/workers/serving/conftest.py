"""An index of phantoms, and the application over it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from index.address import parse_address
from tests.support.in_process import jobs_in_process
from tests.support.jobs import small_job
from workers.indexing.job import index_archive
from workers.serving.application import make_application
from workers.serving.retrieval import Retrieval
from workers.serving.settings import ServingSettings


@pytest.fixture(scope="session")
def served_index(archive: Path, model_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The phantoms, labelled by folder."""
    folder = tmp_path_factory.mktemp("served") / "index"
    with jobs_in_process():
        index_archive(small_job((archive,), model_path, folder, labels="folder"))
    return folder


@pytest.fixture(scope="session")
def retrieval(served_index: Path) -> Iterator[Retrieval]:
    """The warm model and the open index; OpenVINO starts in a third of torch's time."""
    with Retrieval(ServingSettings(parse_address(served_index), runtime="openvino")) as opened:
        yield opened


@pytest.fixture
def client(retrieval: Retrieval) -> TestClient:
    """The application, asked without a network."""
    application = make_application(retrieval.settings)
    application.state.retrieval = retrieval
    return TestClient(application, base_url="http://127.0.0.1")
