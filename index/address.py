"""Addresses of indexes: a folder of this machine, or a collection of a Qdrant server."""

from __future__ import annotations

import os
from dataclasses import dataclass, field, replace
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from model.errors import SettingError
from model.files import absolute

DEFAULT_PORT = 6333
DEFAULT_COLLECTION = "cbmir"
API_KEY_VARIABLE = "CBMIR_INDEX_API_KEY"


@dataclass(frozen=True, slots=True)
class ServerAddress:
    """A collection of a Qdrant server.

    Attributes:
        host: name or IP address of a node; of a cluster whichever entry serves.
        port: port of the REST interface.
        grpc_port: port of the gRPC interface, over which all vectors go.
        tls: whether both are encrypted.
        collection: its name.
        api_key: never shown.
        others: further entry nodes of the same cluster, host and port of each; any that lives serves.
    """

    host: str
    port: int
    grpc_port: int
    tls: bool
    collection: str
    api_key: str | None = field(default=None, repr=False, compare=False)
    others: tuple[tuple[str, int], ...] = ()

    def __str__(self) -> str:
        nodes = ((self.host, self.port), *self.others)
        hosts = ",".join(f"{f'[{host}]' if ':' in host else host}:{port}" for host, port in nodes)
        usual = "" if self.grpc_port == self.port + 1 else f"?grpc_port={self.grpc_port}"
        return f"{'https' if self.tls else 'http'}://{hosts}/{self.collection}{usual}"

    @property
    def entries(self) -> tuple[ServerAddress, ...]:
        """Every entry node as an address of its own; gRPC of each is as far above REST as the first one's."""
        above = self.grpc_port - self.port
        nodes = ((self.host, self.port), *self.others)
        return tuple(replace(self, host=host, port=port, grpc_port=port + above, others=()) for host, port in nodes)


@dataclass(frozen=True, slots=True)
class Address:
    """Where an index is.

    Attributes:
        home: absolute folder of this machine in which the index's ledger, reports and privacy key lie; that of an
            embedded index is the index folder itself.
        server: the collection of a server; ``None`` for an embedded index.
    """

    home: Path
    server: ServerAddress | None = None

    def __str__(self) -> str:
        return str(self.server or self.home)


def parse_address(address: str | Path) -> Address:
    """The folder of an embedded index, or the collection of a server, as a user names it.

    A server is ``http://HOST[:6333][/COLLECTION][?grpc_port=6334]``, or https; gRPC is one port above REST unless it
    is given, the collection is ``cbmir``. Several entry nodes of a cluster stand with commas between them, as
    ``http://q1:6333,q2:6333/scans``: any that lives serves, and the first names the home. The API key is taken from
    CBMIR_INDEX_API_KEY, as one in an address would be seen in the list of processes.

    A server's index has its home below ``CBMIR_STATE``, or else ``$XDG_STATE_HOME/cbmir`` (``~/.local/state/cbmir``),
    one for each server and collection: keep it where it outlives the job's container, or the next job begins anew.

    Raises:
        SettingError: it is an address, but not such a one.
    """
    if "://" not in str(address):
        return Address(Path(absolute(address)))
    text = str(address)
    try:
        parts = urlsplit(text)
        nodes = [_node(node) for node in parts.netloc.split(",")]
        host, port = nodes[0]
        options = parse_qs(parts.query, strict_parsing=bool(parts.query))
        grpc_port = int(options.pop("grpc_port", [str(port + 1)])[0])
    except ValueError as error:
        raise SettingError(f"{text} is no address of an index: {error}") from error
    collection = parts.path.strip("/") or DEFAULT_COLLECTION
    if parts.scheme not in {"http", "https"} or not all(name for name, _ in nodes) or "/" in collection or options:
        raise SettingError(f"{text} is no address of an index: give a folder, or http://HOST:6333/COLLECTION")
    if "@" in parts.netloc:
        raise SettingError(f"the address of an index cannot hold a password: set {API_KEY_VARIABLE} instead")
    key = os.environ.get(API_KEY_VARIABLE) or None
    tls = parts.scheme == "https"
    server = ServerAddress(host, port, grpc_port, tls, collection, key, others=tuple(nodes[1:]))
    return Address(_state() / f"{server.host}_{port}_{collection}".replace(":", "-"), server)


def _node(node: str) -> tuple[str, int]:
    """Host and port of one entry node.

    Raises:
        ValueError: the port is none.
    """
    parts = urlsplit(f"//{node}")
    return parts.hostname or "", parts.port or DEFAULT_PORT


def _state() -> Path:
    """Where the homes of servers' indexes lie."""
    if state := os.environ.get("CBMIR_STATE"):
        return Path(state).absolute()
    return Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local/state").absolute() / "cbmir"
