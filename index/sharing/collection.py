"""The collection ``NAME-ledger`` beside a server's index ``NAME``: its points have no vectors, only payloads.

There are three kinds of them: a *file* is a row of the ledger, with the session that wrote it last; a *session* is one
stay of a process that writes, and of a job what is told of jobs; a *lease* says which session works at a root.
"""

from __future__ import annotations

from base64 import b64decode, b64encode
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from functools import partial
from itertools import islice
from typing import Any, Final
from uuid import UUID, uuid4, uuid5

from qdrant_client import QdrantClient, models

from index.address import ServerAddress
from index.engines.connection import Connection, already_exists
from index.ledger import FileKey, Row
from model.errors import VectorIndexError

SUFFIX: Final = "-ledger"

_NAMESPACE: Final = UUID("5b1f0f8a-0a57-4c55-8f0e-4d6b1c9a7e02")
_KEY = "cbmir-ledger"
_INDEXED = ("kind", "session")
_ROWS = 1024
"""Rows sent at once: some 0.3 MB."""
_PAGE = 4096

FORGOTTEN: Final = "forgotten"
"""State of a row whose file was taken off the ledger: other machines learn it from the row."""

Payload = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Session:
    """One stay of a process that writes to the ledger.

    Attributes:
        id: of the session.
        purpose, host, process, since: who it is, for people to read.
        ended: whether it has let go of the ledger, so that its rows change no more by it.
        started, job_ended, outcome, report: of a job what :class:`index.ledger.JobRecord` says of it.
    """

    id: UUID
    purpose: str
    host: str
    process: int
    since: str
    ended: bool = False
    started: str | None = None
    job_ended: str | None = None
    outcome: str | None = None
    report: str | None = None


@dataclass(frozen=True, slots=True)
class Lease:
    """Which session works at a root.

    Attributes:
        root: number of the root.
        session: of the holder; empty if there is none.
        machine: tells processes that see each other's numbers from those that do not.
        process, process_start, host, purpose, since: of the holder; the start tells it from a later process of the same
            number.
        beat: changes as long as the holder lives.
    """

    root: int
    session: str
    machine: str
    process: int
    host: str
    purpose: str
    since: str
    process_start: int = 0
    beat: int = 0

    def __str__(self) -> str:
        return f"'{self.purpose}' (process {self.process} on {self.host}, since {self.since})"


class LedgerCollection:
    """Reads and writes the points of the collection. Close it.

    Args:
        address: of the index's collection.
        patience: seconds for which passing failures are waited out.
    """

    def __init__(self, address: ServerAddress, patience: float) -> None:
        self.index, self._patience = address, patience
        self._address = ledger_address(address)
        self.name = self._address.collection
        self._connection = Connection.to(self._address)

    def identity(self) -> str | None:
        """What tells this ledger from an earlier one of the same name; ``None`` if there is no collection.

        Raises:
            VectorIndexError: the collection is another program's, or the server cannot be asked.
        """

        def read(client: QdrantClient) -> str | None:
            if not client.collection_exists(self.name):
                return None
            values: Any = (client.get_collection(self.name).config.metadata or {}).get(_KEY)
            return str(values["identity"]) if isinstance(values, dict) and "identity" in values else ""

        found = self._connection.patiently(read, self._patience)
        if found == "":
            raise VectorIndexError(f"{self._address} is a collection, but no ledger of cbmir: name another index")
        return found

    def make(self) -> str:
        """Make the collection, with as many copies as the index has, unless another process has; its identity."""

        def create(client: QdrantClient) -> None:
            params = client.get_collection(self.index.collection).config.params
            try:
                client.create_collection(
                    self.name,
                    vectors_config={},
                    replication_factor=params.replication_factor,
                    write_consistency_factor=params.write_consistency_factor,
                    on_disk_payload=True,
                    metadata={_KEY: {"identity": str(uuid4())}},
                )
            except Exception as error:
                if not already_exists(error):
                    raise
            for field in _INDEXED:
                client.create_payload_index(self.name, field, models.PayloadSchemaType.KEYWORD, wait=True)

        self._connection.patiently(create, self._patience)
        identity = self.identity()
        if identity is None:
            raise VectorIndexError(f"{self._address} was dropped while it was made: run the same command again")
        return identity

    def put_files(self, rows: Iterable[Row], session: UUID) -> None:
        """Insert or replace rows."""
        self._put((_file_id(FileKey(*row[:3])), _from_row(row, session)) for row in rows)

    def forget_files(self, keys: Iterable[FileKey], session: UUID) -> None:
        """Mark rows as forgotten."""
        rows: Iterator[Row] = (
            (key.root, key.directory, key.name, 0, 0, FORGOTTEN, None, b"", None, None) for key in keys
        )
        self.put_files(rows, session)

    def files(self, sessions: Collection[UUID]) -> Iterator[list[Row]]:
        """The rows that these sessions wrote last, page by page, forgotten ones among them."""
        names = [str(one) for one in sessions]
        for start in range(0, len(names), _ROWS):
            wanted = {"kind": ["file"], "session": names[start : start + _ROWS]}
            yield from ([_to_row(payload) for payload in page] for page in self._pages(wanted))

    def find_files(self, keys: Iterable[FileKey]) -> list[Row]:
        """The rows of these files, whoever wrote them; forgotten ones among them."""
        ids: list[Any] = [str(_file_id(key)) for key in keys]
        records = self._connection.patiently(
            lambda client: client.retrieve(self.name, ids, with_payload=True) if ids else [], self._patience
        )
        return [_to_row(record.payload or {}) for record in records]

    def put_session(self, session: Session, *, patience: float | None = None) -> None:
        """Enter a session, or what has changed of it; with a patience of its own for the last word of a job."""
        values = {key: value for key, value in asdict(session).items() if value is not None and key != "id"}
        self._put([(session.id, {"kind": "session", "session": str(session.id), **values})], patience)

    def end_session(self, session: str) -> None:
        """Say of another process's session that it is over."""
        self._connection.patiently(
            lambda client: client.set_payload(self.name, {"ended": True}, [session], wait=True), self._patience
        )

    def sessions(self) -> list[Session]:
        """All sessions."""
        return [
            Session(UUID(payload.pop("session")), **{key: one for key, one in payload.items() if key != "kind"})
            for page in self._pages({"kind": ["session"]})
            for payload in page
        ]

    def lease(self, root: int) -> Lease | None:
        """The lease of a root as it is now."""

        def retrieve(client: QdrantClient) -> list[models.Record]:
            return client.retrieve(self.name, [str(_lease_id(root))], consistency=models.ReadConsistencyType.QUORUM)

        records = self._connection.patiently(retrieve, self._patience)
        if not records:
            return None
        values = {key: value for key, value in (records[0].payload or {}).items() if key != "kind"}
        return Lease(**values)

    def replace_lease(self, lease: Lease, holder: str) -> bool:
        """Write a lease if it is still this session's, or if there is none; return whether it is ours now."""
        wanted = models.FieldCondition(key="session", match=models.MatchValue(value=holder))
        point = models.PointStruct(id=str(_lease_id(lease.root)), vector={}, payload={"kind": "lease", **asdict(lease)})
        self._connection.patiently(
            lambda client: client.upsert(
                self.name,
                [point],
                wait=True,
                ordering=models.WriteOrdering.STRONG,
                update_filter=models.Filter(must=[wanted]),
            ),
            self._patience,
        )
        return self.lease(lease.root) == lease

    def close(self) -> None:
        """Let go of the server."""
        self._connection.close()

    def _put(self, points: Iterable[tuple[UUID, Payload]], patience: float | None = None) -> None:
        left = iter(points)
        while batch := list(islice(left, _ROWS)):
            structs = [models.PointStruct(id=str(one), vector={}, payload=payload) for one, payload in batch]
            upsert = partial(self._upsert, structs)
            self._connection.patiently(upsert, self._patience if patience is None else patience)

    def _upsert(self, points: list[models.PointStruct], client: QdrantClient) -> None:
        client.upsert(self.name, points, wait=True)

    def _pages(self, wanted: Mapping[str, list[str]]) -> Iterator[list[Payload]]:
        """Payloads that match, page by page."""
        must: list[Any] = [
            models.FieldCondition(key=key, match=models.MatchAny(any=values)) for key, values in wanted.items()
        ]
        offset: Any = None

        def scroll(client: QdrantClient) -> tuple[list[models.Record], Any]:
            condition = models.Filter(must=must)
            return client.scroll(self.name, scroll_filter=condition, limit=_PAGE, offset=offset, with_payload=True)

        while True:
            records, offset = self._connection.patiently(scroll, self._patience)
            yield [record.payload or {} for record in records]
            if offset is None:
                return


def ledger_address(index: ServerAddress) -> ServerAddress:
    """The address of the collection beside an index's."""
    return replace(index, collection=index.collection + SUFFIX)


def _file_id(key: FileKey) -> UUID:
    return uuid5(_NAMESPACE, f"file/{key.root}/{key.path}")


def _lease_id(root: int) -> UUID:
    return uuid5(_NAMESPACE, f"lease/{root}")


_COLUMNS: Final = ("root", "directory", "name", "size", "mtime_ns", "state", "label", "points", "reason", "detail")


def _from_row(row: Row, session: UUID) -> Payload:
    values: Payload = {"kind": "file", "session": str(session)}
    values |= {name: value for name, value in zip(_COLUMNS, row, strict=True) if value is not None}
    return values | {"points": b64encode(row[7]).decode()}


def _to_row(payload: Payload) -> Row:
    values: Any = {**payload, "points": b64decode(payload["points"])}
    return tuple(values.get(name) for name in _COLUMNS)
