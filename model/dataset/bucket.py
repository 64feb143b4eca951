"""Public buckets of DICOM objects, read without an account: listing, first bytes, and whole objects."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from datetime import timedelta
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

import obstore
from obstore.exceptions import BaseError, GenericError
from obstore.store import S3Store
from tenacity import Retrying, retry_if_exception_type, stop_after_attempt, wait_exponential_jitter

from model.dataset.lock_file import writing
from model.dataset.stored_objects import StoredObject
from model.errors import DatasetError
from model.files import written_whole

if TYPE_CHECKING:
    from tenacity.wait import WaitBaseT

ATTEMPTS: Final = 6
"""For each request, before it counts as failed."""

WAIT: Final = wait_exponential_jitter(multiplier=0.5, max=30.0)
"""Between attempts, in seconds."""

CONNECT_TIMEOUT: Final = timedelta(seconds=20)

TIMEOUT: Final = timedelta(minutes=10)
"""For a whole object, also a large one on a slow line."""

REGION: Final = "us-east-1"

Result = TypeVar("Result")


class BrokenObjectError(Exception):
    """An object did not come as the bucket had said; another attempt may help."""


class Buckets:
    """Reads public S3 buckets by addresses ``s3://bucket/key``.

    Args:
        endpoint: URL of another S3 server with the same buckets; by default Amazon's.
        wait: time between attempts, as tenacity takes it.
    """

    def __init__(self, endpoint: str | None = None, wait: WaitBaseT = WAIT) -> None:
        self._endpoint, self._wait = endpoint, wait
        self._store: Callable[[str], S3Store] = cache(self._open)

    def list(self, address: str) -> list[StoredObject]:
        """The objects whose addresses begin with this one, in their order.

        Raises:
            DatasetError: the bucket cannot be reached, or refuses.
        """
        bucket, prefix = _parts(address)

        def listed() -> list[StoredObject]:
            return [
                StoredObject(f"s3://{bucket}/{one['path']}", one["size"], (one["e_tag"] or "").strip('"'))
                for page in obstore.list(self._store(bucket), prefix=prefix)
                for one in page
            ]

        return sorted(self._patiently(listed, address), key=lambda one: one.address)

    def start(self, address: str, size: int) -> bytes:
        """The first ``size`` bytes of an object, fewer if it is shorter.

        Raises:
            DatasetError: as :meth:`list`.
        """
        bucket, key = _parts(address)
        return self._patiently(
            lambda: bytes(obstore.get_range(self._store(bucket), key, start=0, length=size)), address
        )

    def download(self, stored: StoredObject, target: Path) -> None:
        """Fetch an object into a file, which appears when it is whole and its checksum right.

        Raises:
            DatasetError: it cannot be fetched, comes damaged each time, or the file cannot be written.
            DiskFullError: the disk is full.
        """
        with writing(target):
            target.parent.mkdir(parents=True, exist_ok=True)
            with written_whole(target) as partial:
                self._patiently(lambda: self._fetch(stored, partial), stored.address)

    def _fetch(self, stored: StoredObject, partial: Path) -> None:
        bucket, key = _parts(stored.address)
        digest, size = hashlib.md5(usedforsecurity=False), 0
        with partial.open("wb") as file:
            for chunk in obstore.get(self._store(bucket), key).stream():
                file.write(chunk)
                digest.update(chunk)
                size += len(chunk)
        if size != stored.size:
            raise BrokenObjectError(f"{size:,} bytes came instead of {stored.size:,}")
        if stored.digest and digest.hexdigest() != stored.digest:
            raise BrokenObjectError("its checksum is not that of the listing")

    def _open(self, bucket: str) -> S3Store:
        elsewhere: dict[str, Any] = {"endpoint": self._endpoint} if self._endpoint else {}
        return S3Store(
            bucket,
            **elsewhere,
            region=REGION,
            skip_signature=True,
            client_options={
                "allow_http": (self._endpoint or "").startswith("http://"),
                "timeout": TIMEOUT,
                "connect_timeout": CONNECT_TIMEOUT,
            },
            retry_config={"max_retries": 0},  # the attempts here count a body that breaks off, too
        )

    def _patiently(self, action: Callable[[], Result], address: str) -> Result:
        """Act, and act again after failures that may pass: the network's, the server's, a body that breaks off."""
        retrying = Retrying(
            retry=retry_if_exception_type((GenericError, BrokenObjectError)),
            wait=self._wait,
            stop=stop_after_attempt(ATTEMPTS),
            reraise=True,
        )
        try:
            return retrying(action)
        except (BaseError, BrokenObjectError) as error:
            raise DatasetError(f"{address} cannot be fetched: {str(error).splitlines()[0]}") from error


def _parts(address: str) -> tuple[str, str]:
    bucket, _, key = address.removeprefix("s3://").partition("/")
    return bucket, key
