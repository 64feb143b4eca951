"""Fixtures: an untrained model, phantoms on disk, and Ray started once for the whole run."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from xdist.scheduler import LoadScopeScheduling

from tests.support import phantoms
from tests.support.models import make_model
from tests.support.shared import SHARED

pytest_plugins = ["tests.support.orthanc", "tests.support.qdrant_server"]

os.environ.setdefault("OMP_NUM_THREADS", "1")  # three processes share two cores: threads that wait for others spin

settings.register_profile("cbmir", deadline=None)  # the first example pays for heavy imports
settings.load_profile("cbmir")


SLOW = (
    *(
        "cli",
        "model/training",
        "model/dataset",
        "index/upkeep",
        "index/evaluation",
        "index/engines/test_server",
        "test_compatibility",
        "test_wheel",
    ),
    *("workers/test_cluster", "workers/test_diagnosis", "workers/test_simulated_cluster"),
    *(f"workers/indexing/test_{name}" for name in ("interruptions", "job", "metrics", "moving", "pipeline")),
    *(
        f"workers/indexing/test_{name}"
        for name in ("object_storage", "preparing", "privacy", "reembedding", "stages", "walks_cut_short")
    ),
)
"""Where tests start Ray or processes, train, rank whole indexes, or wait for servers that are away.

``make test-fast`` leaves them out.
"""


TOGETHER = {
    "ray": (
        "cli/commands/test_doctor",
        "cli/commands/test_server_index",
        *(
            f"workers/indexing/test_{name}"
            for name in ("interruptions", "job", "metrics", "pipeline", "privacy", "storing")
        ),
        "workers/test_simulated_cluster",
    ),
    "terminal": ("cli/test_terminal.py",),
    "dataset": ("model/dataset",),
}
"""Tests that share what takes long to make, or would wait for each other's Ray: one process runs a group in a row."""


LONG = ("test_wheel", "cli/test_streams", "cli/test_terminal_training")
"""Single tests of half a minute: at the end of a run two of three processes would wait for them.

That of two hosts stays there: beside others its link is at times cut before the other host has begun.
"""


class Scheduling(LoadScopeScheduling):  # type: ignore[misc] # it is not typed
    """Gives test processes one test at a time, or a whole group (of pytest-xdist's own, 3.8 knows none by pytest 9)."""

    def _split_scope(self, nodeid: str) -> str:
        path = nodeid.removeprefix("tests/")
        return next((group for group, starts in TOGETHER.items() if path.startswith(starts)), nodeid)


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> LoadScopeScheduling:
    """The scheduler of test processes."""
    return Scheduling(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the long tests."""
    tests = Path(__file__).parent
    items.sort(key=lambda item: not item.path.relative_to(tests).as_posix().startswith(LONG))


def pytest_itemcollected(item: pytest.Item) -> None:
    """Mark slow tests."""
    if item.path.relative_to(Path(__file__).parent).as_posix().startswith(SLOW):
        item.add_marker(pytest.mark.slow)
    if "server_address" in getattr(item, "fixturenames", ()):
        item.add_marker(pytest.mark.server)


@pytest.fixture(scope="session", autouse=True)
def small_jobs() -> None:
    """What :func:`tests.support.jobs.small_job` says, for jobs by the command line, also in other processes."""
    os.environ["CBMIR_ACTORS"] = "1"
    os.environ["CBMIR_RUNTIME"] = "openvino"  # a job's time is that of starting actors: a third of torch's
    os.environ.update({"RAY_prestart_worker_first_driver": "0"})  # also for the clusters that tests start


@pytest.fixture(scope="session")
def model_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A narrow network of the phantoms' six organs, initialised and not trained."""
    return make_model(tmp_path_factory.mktemp("model") / "untrained.safetensors", seed=0)


@pytest.fixture(scope="session")
def other_model_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Another model of the same classes."""
    return make_model(tmp_path_factory.mktemp("model") / "other.safetensors", seed=1)


@pytest.fixture(scope="session")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Phantoms: six classes of four files, one file of four frames, one broken file; not to be changed."""
    folder = tmp_path_factory.mktemp("archive")
    phantoms.write_repository(folder, images=4, side=64)
    return folder


@pytest.fixture(scope="session")
def ray_here() -> Iterator[None]:
    """Ray on this machine, started as a job starts it, kept for all tests that need it."""
    from workers.cluster import ray_session

    with ray_session(None, cpus=2):
        yield


@pytest.fixture
def without_ray() -> Iterator[None]:
    """Jobs run in this process: for tests of what they keep, move and remove."""
    from tests.support.in_process import jobs_in_process

    with jobs_in_process():
        yield


@pytest.fixture
def cbmir() -> Callable[..., int]:
    """The program in this process: arguments in, exit code out."""
    from cli.app import run

    return lambda *arguments: run([str(argument) for argument in arguments])


@pytest.fixture(scope="session")
def program() -> Path:
    """The installed program, for tests that need a process of its own."""
    return Path(sys.executable).with_name("cbmir")


@pytest.fixture(scope="session")
def program_without_ray() -> tuple[str, ...]:
    """The same, its jobs without Ray."""
    return (sys.executable, "-m", "tests.support.in_process")


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real images beside the checkout; the test is skipped where there are none."""
    if not SHARED.is_dir():
        pytest.skip(f"needs the real images of {SHARED}, which are absent")
    return SHARED
