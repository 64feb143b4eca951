"""Calls to a Qdrant server that outlast its pauses, and its errors as ours."""

from __future__ import annotations

import logging
import socket
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from typing import TYPE_CHECKING, Any, Self, TypeVar

import grpc
import httpx
from qdrant_client import QdrantClient
from qdrant_client.common.client_exceptions import QdrantException, ResourceExhaustedResponse
from qdrant_client.http.exceptions import ApiException, ResponseHandlingException, UnexpectedResponse
from tenacity import RetryCallState, Retrying, retry_if_exception, stop_after_delay, wait_exponential_jitter

from index.address import API_KEY_VARIABLE, ServerAddress
from model.errors import VectorIndexError

if TYPE_CHECKING:
    from tenacity.wait import WaitBaseT

TIMEOUT_SECONDS = 60
"""Of one request. The client's own 5 s are too short for an upsert that waits for a loaded disk."""

LONGEST_WAIT_SECONDS = 30.0

LISTENER_SECONDS = 2.0
"""Time within which an entry node takes a connection, where another one may."""

_TOO_LARGE = "larger than max"
"""What gRPC says of a message over its limit, under the same code as an overloaded server."""

_TRANSIENT = {
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.DEADLINE_EXCEEDED,
    grpc.StatusCode.RESOURCE_EXHAUSTED,
    grpc.StatusCode.ABORTED,
    grpc.StatusCode.CANCELLED,
    # A node of a cluster that is away, or a shard without an active replica.
    grpc.StatusCode.INTERNAL,
    grpc.StatusCode.FAILED_PRECONDITION,
}
_FULL = ("no space left", "out of disk", "out of memory")
"""What a server says, in any case of letters, under the same codes as passing faults, when it needs an operator."""

_PASSING_HTTP = {408, 425, 429, 500, 502, 503, 504}

_log = logging.getLogger("cbmir.index")
_backoff: WaitBaseT = wait_exponential_jitter(multiplier=0.5, max=LONGEST_WAIT_SECONDS, jitter=1.0)

Result = TypeVar("Result")


def connect(address: ServerAddress, timeout: int = TIMEOUT_SECONDS) -> QdrantClient:
    """A client of the server; nothing is sent yet."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Api key is used with an insecure connection")  # inside a compose network
        return QdrantClient(
            host=f"[{address.host}]" if ":" in address.host else address.host,
            port=address.port,
            grpc_port=address.grpc_port,
            https=address.tls,
            verify=address.tls,  # else the authorities' certificates are loaded, which takes longer than all the rest
            api_key=address.api_key,
            prefer_grpc=True,
            timeout=timeout,
            check_compatibility=False,  # 'cbmir doctor' checks it, and says so in words
        )


class EntryNodes:
    """The nodes of a cluster by which it can be reached; often there is one.

    Args:
        address: of the server.

    Attributes:
        address: as given.
        several: whether there are more than one.
    """

    def __init__(self, address: ServerAddress) -> None:
        self.address = address
        self._entries, self._asked = address.entries, address.entries[0]
        self.several = len(self._entries) > 1
        self._first = True

    def client(self, timeout: int = TIMEOUT_SECONDS) -> QdrantClient:
        """A client of the first node that takes connections, of those asked before at last; of any if none does."""
        ordered = self._entries if self._first else sorted(self._entries, key=lambda entry: entry == self._asked)
        living = (entry for entry in ordered if not self.several or _listens(entry))
        self._asked, self._first = next(living, ordered[0]), False
        return connect(self._asked, timeout)


def _listens(entry: ServerAddress) -> bool:
    try:
        socket.create_connection((entry.host, entry.grpc_port), LISTENER_SECONDS).close()
    except OSError:
        return False
    return True


class Connection:
    """A client of a server, by whichever of its nodes answers, and calls that outlast its pauses.

    Args:
        client: to begin with.
        name: how to name the server's collection to people.
        entries: of a cluster, the nodes of which another is asked after a failure.

    Attributes:
        client: of the node that is asked now.
    """

    def __init__(self, client: QdrantClient, name: str, entries: EntryNodes | None = None) -> None:
        self.client, self._name, self._entries = client, name, entries

    @classmethod
    def to(cls, address: ServerAddress) -> Self:
        """A new one; nothing is sent yet but what finds a node that listens, where there are several."""
        entries = EntryNodes(address)
        return cls(entries.client(), str(address), entries)

    def another(self) -> Connection:
        """One more connection to the same server; of a client without an address this one."""
        return self.to(self._entries.address) if self._entries else self

    def patiently(self, call: Callable[[QdrantClient], Result], seconds: float) -> Result:
        """What a call gives, as :func:`patiently`, by another node after each failure."""
        return patiently(
            lambda: call(self.client), address=self._name, seconds=seconds, before_retry=self._go_to_another_entry
        )

    def close(self) -> None:
        """Let go of the server."""
        self.client.close()

    def _go_to_another_entry(self) -> None:
        if self._entries and self._entries.several:
            self.client.close()
            self.client = self._entries.client()


def patiently(
    call: Callable[[], Result], *, address: str, seconds: float, before_retry: Callable[[], None] = lambda: None
) -> Result:
    """Call until it succeeds, again after each transient failure, for at most so many seconds.

    Waits grow from half a second to 30, with jitter; a server that says how long to wait is waited for as long.

    Args:
        call: what to do.
        address: how to name the server to people.
        seconds: after which the last failure counts.
        before_retry: called after each wait.

    Raises:
        VectorIndexError: it failed for good, or for too long.
    """
    attempts = count()

    def attempt() -> Result:
        if next(attempts):
            before_retry()
        return call()

    retrying = Retrying(
        retry=retry_if_exception(is_transient),
        wait=_wait,
        stop=stop_after_delay(seconds),
        before_sleep=lambda state: _say(state, address),
        reraise=True,
    )
    with server_errors(address):
        return retrying(attempt)


def is_transient(error: BaseException) -> bool:
    """Whether the same call may succeed later: the server is overloaded, restarting, or was cut off."""
    if isinstance(error, grpc.RpcError):
        details = _details(error).lower()
        return _code(error) in _TRANSIENT and not any(said in details for said in (_TOO_LARGE, *_FULL))
    if isinstance(error, UnexpectedResponse):
        return error.status_code in _PASSING_HTTP
    return isinstance(error, ResourceExhaustedResponse | ResponseHandlingException | httpx.TransportError)


@contextmanager
def server_errors(address: str) -> Iterator[None]:
    """Turn the client's errors into ours, in a sentence with what to do."""
    try:
        yield
    except (grpc.RpcError, QdrantException, ApiException, httpx.HTTPError, ValueError) as error:
        raise VectorIndexError(_sentence(error, address)) from error


def already_exists(error: BaseException) -> bool:
    """Whether a collection could not be made because it is there."""
    if isinstance(error, grpc.RpcError):
        return _code(error) is grpc.StatusCode.ALREADY_EXISTS or "already exists" in _details(error)
    return isinstance(error, UnexpectedResponse) and (error.status_code == 409 or b"already exists" in error.content)


def is_missing(error: BaseException) -> bool:
    """Whether there is no such collection."""
    if isinstance(error, grpc.RpcError):
        return _code(error) is grpc.StatusCode.NOT_FOUND
    return isinstance(error, UnexpectedResponse) and error.status_code == 404


def _wait(state: RetryCallState) -> float:
    error = state.outcome.exception() if state.outcome else None
    asked = error.retry_after_s if isinstance(error, ResourceExhaustedResponse) else 0
    return max(float(asked), float(_backoff(state)))


def _say(state: RetryCallState, address: str) -> None:
    error = state.outcome.exception() if state.outcome else None
    pause = state.next_action.sleep if state.next_action else 0.0
    _log.warning("%s: trying again in %.0f s", _sentence(error, address), pause)


def _sentence(error: BaseException | None, address: str) -> str:
    code = _code(error) if isinstance(error, grpc.RpcError) else None
    status = error.status_code if isinstance(error, UnexpectedResponse) else None
    details = _details(error)
    if code is grpc.StatusCode.UNAVAILABLE or isinstance(error, ResponseHandlingException | httpx.TransportError):
        return f"{address} cannot be reached: is the server running, and its gRPC port open? ({details})"
    if code in {grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.PERMISSION_DENIED} or status in {401, 403}:
        return f"{address} refuses the API key: set {API_KEY_VARIABLE} ({details})"
    if code is grpc.StatusCode.DEADLINE_EXCEEDED:
        return f"{address} did not answer in time"
    return f"{address} refused: {details}"


def _code(error: Any) -> grpc.StatusCode | None:
    code = getattr(error, "code", None)
    return code() if code else None


def _details(error: Any) -> str:
    details = getattr(error, "details", None)
    return str((details() if details else None) or error)
