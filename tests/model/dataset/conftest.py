from __future__ import annotations

from collections.abc import Iterator

import pytest
from tenacity import wait_none

from model.dataset.bucket import Buckets
from tests.model.dataset.bucket_server import BucketServer, serve


@pytest.fixture(scope="session")
def _bucket_server() -> Iterator[BucketServer]:
    with serve({"brain": 4, "knee": 3}, series=2, slices=2) as server:
        yield server


@pytest.fixture
def bucket_server(_bucket_server: BucketServer) -> BucketServer:
    """Seven patients with two series each, of which two pictures are planned; nothing goes wrong yet."""
    for kind in ("unavailable", "cut", "damaged", "requests"):
        getattr(_bucket_server.faults, kind).clear()
    return _bucket_server


@pytest.fixture
def buckets(bucket_server: BucketServer) -> Buckets:
    """The same, to be fetched from without long waits."""
    return Buckets(bucket_server.endpoint, wait=wait_none())
