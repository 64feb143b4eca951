"""Fixtures: an untrained full-size model, phantoms on disk, and Ray started once for the whole run."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

from tests import phantoms
from workers.indexing.settings import JobSettings

pytest_plugins = ["tests.qdrant_server"]

settings.register_profile("cbmir", deadline=None)  # the first example pays for heavy imports
settings.load_profile("cbmir")

SHARED = Path(__file__).parents[2] / "shared" / "data"


def small_job(archives: tuple[Path, ...], model: Path, index: str | Path, **more: Any) -> JobSettings:
    """Settings of a job over a few files: its time is that of starting its actors, so that one is enough."""
    return JobSettings(archives, index, model, **{"actors": (1, 1), **more})


@pytest.fixture(scope="session", autouse=True)
def one_actor() -> None:
    """The same for jobs by the command line, also in other processes."""
    os.environ["CBMIR_ACTORS"] = "1"


@pytest.fixture(scope="session")
def model_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A full-size network of the phantoms' six organs, initialised and not trained."""
    return make_model(tmp_path_factory.mktemp("model") / "untrained.safetensors", seed=0)


@pytest.fixture(scope="session")
def other_model_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Another model of the same classes."""
    return make_model(tmp_path_factory.mktemp("model") / "other.safetensors", seed=1)


def make_model(path: Path, *, seed: int, classes: tuple[str, ...] = tuple(phantoms.ORGANS)) -> Path:
    """Write an untrained checkpoint."""
    import torch

    from model.network.architecture import OrganNetwork, initialise
    from model.network.checkpoint import fingerprint, save_checkpoint
    from model.network.metadata import Metadata

    torch.manual_seed(seed)
    network = OrganNetwork(len(classes))
    initialise(network, "he")
    weights = network.state_dict()
    save_checkpoint(path, weights, Metadata(classes=classes, fingerprint=fingerprint(weights, classes)))
    return path


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
def cbmir() -> Callable[..., int]:
    """The program in this process: arguments in, exit code out."""
    from cli.app import run

    return lambda *arguments: run([str(argument) for argument in arguments])


@pytest.fixture(scope="session")
def program() -> Path:
    """The installed program, for tests that need a process of its own."""
    return Path(sys.executable).with_name("cbmir")


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real images beside the checkout; the test is skipped where there are none."""
    if not SHARED.is_dir():
        pytest.skip(f"needs the real images of {SHARED}, which are absent")
    return SHARED
