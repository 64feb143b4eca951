"""Addresses of indexes: a folder of this machine, or a collection of a Qdrant server."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
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
        host: name or IP address.
        port: port of the REST interface.
        grpc_port: port of the gRPC interface, over which all vectors go.
        tls: whether both are encrypted.
        collection: its name.
        api_key: never shown.
    """

    host: str
    port: int
    grpc_port: int
    tls: bool
    collection: str
    api_key: str | None = field(default=None, repr=False, compare=False)

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        usual = "" if self.grpc_port == self.port + 1 else f"?grpc_port={self.grpc_port}"
        return f"{'https' if self.tls else 'http'}://{host}:{self.port}/{self.collection}{usual}"


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
    is given, the collection is ``cbmir``. The API key is taken from CBMIR_INDEX_API_KEY, as one in an address would be
    seen in the list of processes.

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
        port = parts.port or DEFAULT_PORT
        options = parse_qs(parts.query, strict_parsing=bool(parts.query))
        grpc_port = int(options.pop("grpc_port", [str(port + 1)])[0])
    except ValueError as error:
        raise SettingError(f"{text} is no address of an index: {error}") from error
    collection = parts.path.strip("/") or DEFAULT_COLLECTION
    if parts.scheme not in {"http", "https"} or not parts.hostname or "/" in collection or options:
        raise SettingError(f"{text} is no address of an index: give a folder, or http://HOST:6333/COLLECTION")
    if parts.username or parts.password:
        raise SettingError(f"the address of an index cannot hold a password: set {API_KEY_VARIABLE} instead")
    key = os.environ.get(API_KEY_VARIABLE) or None
    server = ServerAddress(parts.hostname, port, grpc_port, parts.scheme == "https", collection, key)
    return Address(_state() / f"{server.host}_{port}_{collection}".replace(":", "-"), server)


def _state() -> Path:
    """Where the homes of servers' indexes lie."""
    if state := os.environ.get("CBMIR_STATE"):
        return Path(state).absolute()
    return Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local/state").absolute() / "cbmir"
