"""An embedded index while a process writes to it: that process answers others of the same user over a local socket.

Qdrant Edge lets one process open a shard. A request is one line of JSON, its answer another; vectors are base64 of
their float32 values. The socket lies in a folder that only its user can enter; ``holder.json`` in the index's folder
names it.
"""

from __future__ import annotations

import json
import logging
import shutil
import socket
import socketserver
import tempfile
import threading
from base64 import b64decode, b64encode
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import Any
from uuid import UUID

import numpy as np

from index.engines.engine import EVERYTHING, Hit, Searchable, Statistics, Where
from index.home.description import read_description
from index.home.lock import Holder, IndexLock, holder, in_use
from index.schema import Payload, Vector
from model.errors import CbmirError, IndexLockedError, VectorIndexError

_NAME, _PREFIX = "socket", "cbmir-answers-"

LONGEST_PATH = 100
"""Bytes of a socket's path; the system takes 107."""

ANSWER_SECONDS = 15.0
"""For which an answer is waited. While the engine builds the graph, its process answers nothing."""

STOP_SECONDS = 0.05
"""Within which the answering ends with its index; the half a second of Python's own is what every command waited."""

_REQUEST_BYTES = 2**24
_LET_GO = "let go"
_PAGE = 1024

_log = logging.getLogger("cbmir.index")

Request = dict[str, Any]


class Answering:
    """Answers for an open index, in threads of its own, until it is stopped.

    Args:
        index: open, of this process.
        lock: by which this process holds it; told where to ask.
        let_go: called when another process asks to have the index; it returns at once, and the index is closed soon.
    """

    def __init__(self, index: Searchable, lock: IndexLock, let_go: Callable[[], None] | None = None) -> None:
        self._folder: Path | None = None
        if lock.former and lock.former.socket:
            _sweep(Path(lock.former.socket))
        try:
            self._folder = _private_folder()
            self._server = _Server(str(self._folder / _NAME), _Handler)
        except OSError as error:
            _log.warning("others cannot search this index meanwhile: %s", error)
            self._remove_folder()
            return
        self._server.index, self._server.let_go = index, let_go
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(STOP_SECONDS,), name="cbmir-answering", daemon=True
        )
        self._thread.start()
        try:
            lock.tell_socket(str(self._folder / _NAME))
        except OSError as error:
            _log.warning("others cannot search this index meanwhile: %s", error)
            self.stop()

    def stop(self) -> None:
        """Answer what was asked, then nothing more."""
        if self._folder is None:
            return
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
        self._remove_folder()

    def _remove_folder(self) -> None:
        if self._folder:
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder = None


def _private_folder() -> Path:
    """A new folder of this user alone, where a socket's name is not too long."""
    folder = Path(tempfile.gettempdir())
    if len(bytes(folder)) + len(f"/{_PREFIX}12345678/{_NAME}") > LONGEST_PATH:
        folder = Path("/tmp")  # noqa: S108 (only to make a folder of our own in it)
    return Path(tempfile.mkdtemp(prefix=_PREFIX, dir=folder))


def _sweep(left: Path) -> None:
    """Remove what a process that was killed has left behind: its socket, and nothing else that a word may name."""
    with suppress(OSError):
        if left.parent.name.startswith(_PREFIX) and left.is_socket():
            left.unlink()
            left.parent.rmdir()


class _Server(socketserver.ThreadingUnixStreamServer):
    index: Searchable
    let_go: Callable[[], None] | None

    def handle_error(self, *_: Any) -> None:
        """A client that has gone is no matter of this process."""
        _log.debug("a question could not be answered", exc_info=True)


class _Handler(socketserver.StreamRequestHandler):
    timeout = ANSWER_SECONDS

    def handle(self) -> None:
        assert isinstance(self.server, _Server)
        line = self.rfile.readline(_REQUEST_BYTES)
        if not line:
            return
        answer: dict[str, Any]
        try:
            request: Request = json.loads(line)
            if request["call"] == _LET_GO:
                answer = {"result": self.server.let_go is not None}
                if self.server.let_go:
                    self.server.let_go()
            else:
                answer = {"result": _ANSWERS[request["call"]](self.server.index, request)}
        except CbmirError as error:
            answer = {"error": str(error)}
        except (ValueError, KeyError, TypeError) as error:
            answer = {"error": f"the question was not understood: {error!r}"}
        except Exception as error:  # said to whoever asks; the job goes on
            answer = {"error": f"the question could not be answered: {error!r}"}
        self.wfile.write(json.dumps(answer).encode() + b"\n")


def _hits(hits: Sequence[Hit]) -> list[list[Any]]:
    return [[str(hit.id), hit.score, hit.payload.to_dict()] for hit in hits]


def _chosen(request: Request) -> dict[str, Any]:
    return {"top": int(request["top"]), "where": _to_where(request["where"]), "exact": bool(request["exact"])}


def _page(index: Searchable, request: Request) -> list[list[Any]]:
    start = UUID(request["start"]) if request["start"] else None
    found = islice(index.scroll(_to_where(request["where"]), start=start), _PAGE)
    return [[str(point), payload.to_dict()] for point, payload in found]


_ANSWERS: dict[str, Callable[[Searchable, Request], Any]] = {
    "nearest": lambda index, asked: _hits(
        index.nearest(_to_vector(asked["vector"]), str(asked["layer"]), **_chosen(asked))
    ),
    "rank": lambda index, asked: [
        str(point) for point in index.rank(_to_vector(asked["vector"]), str(asked["layer"]), **_chosen(asked))
    ],
    "fused": lambda index, asked: _hits(
        index.fused({layer: _to_vector(text) for layer, text in asked["vectors"].items()}, **_chosen(asked))
    ),
    "recommended": lambda index, asked: _hits(
        index.recommended(
            list(map(_to_vector, asked["more"])),
            list(map(_to_vector, asked["less"])),
            str(asked["layer"]),
            **_chosen(asked),
        )
    ),
    "retrieve": lambda index, asked: {
        str(point): payload.to_dict() for point, payload in index.retrieve(list(map(UUID, asked["ids"]))).items()
    },
    "vector": lambda index, asked: _to_text(index.vector(UUID(asked["point"]), str(asked["layer"]))),
    "page": _page,
    "count": lambda index, asked: index.count(_to_where(asked["where"])),
    "facet": lambda index, asked: index.facet(str(asked["keyword"])),
    "statistics": lambda index, _asked: asdict(index.statistics()),
}


def ask_owner(folder: Path, there: Holder) -> Searchable | None:
    """The index as the process that holds it answers; ``None`` if that one has gone."""
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(ANSWER_SECONDS)
            connection.connect(there.socket)
    except OSError:
        return None
    return AskedIndex(folder, there)


def ask_to_let_go(folder: Path) -> bool:
    """Ask the process that holds an index to let go of it: one that only searches in it will, within moments."""
    there = holder(folder)
    if there is None or not there.socket:
        return False
    try:
        return bool(AskedIndex(folder, there).ask(_LET_GO))
    except VectorIndexError:  # it has gone, is busy, or is of an earlier version
        return False


class AskedIndex(Searchable):
    """An embedded index that another process holds, to search in it; it is a moment behind that process's writes.

    Args:
        folder: of the index.
        there: the process to ask.
    """

    def __init__(self, folder: Path, there: Holder) -> None:
        self._folder, self._socket, self.asked = folder, there.socket, str(there)
        self.description = read_description(folder)

    def ask(self, call: str, **more: Any) -> Any:
        """What the owner answers.

        Raises:
            IndexLockedError: it does not answer in time, or ended meanwhile.
            VectorIndexError: its engine refused.
        """
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(ANSWER_SECONDS)
            try:
                connection.connect(self._socket)
                connection.sendall(json.dumps({"call": call, **more}).encode() + b"\n")
                with connection.makefile("rb") as answers:
                    line = answers.readline()
            except TimeoutError as error:
                raise IndexLockedError(
                    f"{in_use(self._folder)}; it answers no questions just now, perhaps as it builds the vector index"
                ) from error
            except OSError:
                line = b""
        if not line:
            raise IndexLockedError(f"the process that held {self._folder} has ended meanwhile: ask again")
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise VectorIndexError(answer["error"])
        return answer["result"]

    def retrieve(self, ids: Collection[UUID]) -> dict[UUID, Payload]:
        found = self.ask("retrieve", ids=list(map(str, ids)))
        return {UUID(point): Payload.from_dict(payload) for point, payload in found.items()}

    def vector(self, point: UUID, layer: str) -> Vector:
        return _to_vector(self.ask("vector", point=str(point), layer=layer))

    def nearest(
        self, vector: Vector, layer: str, *, top: int, where: Where = EVERYTHING, exact: bool = False
    ) -> list[Hit]:
        return _to_hits(self.ask("nearest", vector=_to_text(vector), layer=layer, **_choice(top, where, exact)))

    def rank(
        self, vector: Vector, layer: str, *, top: int, where: Where = EVERYTHING, exact: bool = False
    ) -> list[UUID]:
        return list(map(UUID, self.ask("rank", vector=_to_text(vector), layer=layer, **_choice(top, where, exact))))

    def fused(
        self, vectors: Mapping[str, Vector], *, top: int, where: Where = EVERYTHING, exact: bool = False
    ) -> list[Hit]:
        texts = {layer: _to_text(vector) for layer, vector in vectors.items()}
        return _to_hits(self.ask("fused", vectors=texts, **_choice(top, where, exact)))

    def recommended(
        self,
        more: Sequence[Vector],
        less: Sequence[Vector],
        layer: str,
        *,
        top: int,
        where: Where = EVERYTHING,
        exact: bool = False,
    ) -> list[Hit]:
        examples = {"more": list(map(_to_text, more)), "less": list(map(_to_text, less))}
        return _to_hits(self.ask("recommended", **examples, layer=layer, **_choice(top, where, exact)))

    def scroll(self, where: Where = EVERYTHING, *, start: UUID | None = None) -> Iterator[tuple[UUID, Payload]]:
        begun = False
        while page := self.ask("page", where=_from_where(where), start=str(start) if start else None):
            fresh = page[1:] if begun else page  # a page starts with the last point of the one before
            yield from ((UUID(point), Payload.from_dict(payload)) for point, payload in fresh)
            if len(page) < _PAGE:
                return
            start, begun = UUID(page[-1][0]), True

    def count(self, where: Where = EVERYTHING) -> int:
        return int(self.ask("count", where=_from_where(where)))

    def facet(self, keyword: str) -> dict[str, int]:
        return dict(self.ask("facet", keyword=keyword))

    def statistics(self) -> Statistics:
        return Statistics(**self.ask("statistics"))

    def close(self) -> None:
        """Nothing is held."""


def _to_text(vector: Vector) -> str:
    return b64encode(np.ascontiguousarray(vector, np.float32).tobytes()).decode()


def _to_vector(text: str) -> Vector:
    return np.frombuffer(b64decode(text), np.float32)


def _to_hits(found: Sequence[Sequence[Any]]) -> list[Hit]:
    return [Hit(UUID(point), score, Payload.from_dict(payload)) for point, score, payload in found]


def _choice(top: int, where: Where, exact: bool) -> dict[str, Any]:
    return {"top": top, "where": _from_where(where), "exact": exact}


def _from_where(where: Where) -> dict[str, Any]:
    return {
        "must": {key: list(values) for key, values in where.must.items()},
        "must_not": {key: list(values) for key, values in where.must_not.items()},
        "exclude_ids": list(map(str, where.exclude_ids)),
    }


def _to_where(values: Mapping[str, Any]) -> Where:
    return Where(values["must"], values["must_not"], list(map(UUID, values["exclude_ids"])))
