"""The way of embedded frames into the index: by this process, or by processes beside those that embed.

The embedded engine (Qdrant Edge 0.9) is open in one process, the job's own, so that the features come there. To a
server they go from the node on which they were computed (:mod:`workers.indexing.storing_actor`); the job's process
gets ids and headers only, and says what is stored.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import numpy as np
import pyarrow as pa
import ray
from ray.exceptions import RayError, RayTaskError

from index.address import Address
from index.engines.engine import Index
from index.schema import Payload, PointBatch, Vector
from workers.indexing.rows import FEATURE, KEPT_AS, KEPT_BY, KEPT_ROW, to_matrix

REQUESTS_A_NODE = 4
"""Requests that a server gets at once from each node; each thread there has a connection of its own."""


@dataclass(frozen=True, slots=True)
class Arrived:
    """A frame of which everything is known but whether it is stored.

    Attributes:
        id: of its point.
        payload: of its point.
        features: what :meth:`Storing.take` gave for its table.
        row: of it in that table.
    """

    id: UUID
    payload: Payload
    features: Any
    row: int


class Storing(ABC):
    """Stores frames, perhaps a while later, and knows which are not stored yet.

    A point is never on its way twice, so that the last word on it is the last one that is stored.
    """

    @abstractmethod
    def take(self, table: pa.Table) -> Any:
        """What stands behind the rows of a table of embedded frames, for :attr:`Arrived.features`."""

    @abstractmethod
    def store(self, frames: Sequence[Arrived]) -> None:
        """Take frames of different points; those of tables taken before that are not among them are let go.

        Raises:
            VectorIndexError: these, or some that were taken before, could not be stored.
            RayError: a process that stores was lost, with what it had.
        """

    @abstractmethod
    def under_way(self) -> Mapping[UUID, Payload]:
        """The payloads of all points that are taken and perhaps not stored yet."""

    @abstractmethod
    def wait(self) -> None:
        """Return when everything that was taken is stored.

        Raises:
            VectorIndexError, RayError: as :meth:`store`; what was taken before and after may be stored or not.
        """


class StoringHere(Storing):
    """This process stores, at once.

    Args:
        index: open, to be written.
    """

    def __init__(self, index: Index) -> None:
        self._index = index

    def take(self, table: pa.Table) -> Mapping[str, Vector]:
        """The features themselves, by layer; rows that were left out have some, too, which mean nothing."""
        return {layer: to_matrix(table[layer], FEATURE) for layer in self._index.description.layers}

    def store(self, frames: Sequence[Arrived]) -> None:
        """Store them now."""
        if not frames:
            return
        vectors = {
            layer: np.stack([frame.features[layer][frame.row] for frame in frames])
            for layer in self._index.description.layers
        }
        payloads = [frame.payload.to_dict() for frame in frames]
        self._index.upsert_batch(PointBatch([frame.id for frame in frames], payloads, vectors))

    def under_way(self) -> Mapping[UUID, Payload]:
        """None: what was taken is stored."""
        return {}

    def wait(self) -> None:
        """Everything is stored."""


_Place = tuple[str, int]
"""Where features are kept: the node, and a number there."""


class StoringBesideEmbedding(Storing):
    """A process on each node stores what is embedded there.

    Args:
        actors: by node, handles of the :class:`workers.indexing.storing_actor.StoringActor` there.
    """

    def __init__(self, actors: Mapping[str, Any]) -> None:
        self._actors = actors
        self._taken: set[_Place] = set()
        self._unfinished: dict[Any, Sequence[Arrived]] = {}
        self._under_way: dict[UUID, Payload] = {}
        self._failed: BaseException | None = None

    def take(self, table: pa.Table) -> Sequence[tuple[_Place, int] | None]:
        """Where the features of each row are kept."""
        columns = (table[name].to_pylist() for name in (KEPT_BY, KEPT_AS, KEPT_ROW))
        places = [None if node is None else ((node, number), row) for node, number, row in zip(*columns, strict=True)]
        self._taken.update(place[0] for place in places if place)
        return places

    def store(self, frames: Sequence[Arrived]) -> None:
        """Tell the nodes which of what they keep is stored, and under which ids; what is left they let go."""
        if any(frame.id in self._under_way for frame in frames):
            self.wait()
        self._settle()
        by_place: defaultdict[_Place, list[Arrived]] = defaultdict(list)
        for frame in frames:
            by_place[frame.features[frame.row][0]].append(frame)
        for (node, number), its_frames in by_place.items():
            self._wait_for_room()
            rows = [frame.features[frame.row][1] for frame in its_frames]
            payloads = [frame.payload.to_dict() for frame in its_frames]
            ids = [frame.id for frame in its_frames]
            done = self._actors[node].store.options(concurrency_group="store").remote(number, rows, ids, payloads)
            self._unfinished[done] = its_frames
            self._under_way.update((frame.id, frame.payload) for frame in its_frames)
        for node, number in self._taken - by_place.keys():
            self._actors[node].let_go.options(concurrency_group="store").remote(number)
        self._taken.clear()

    def under_way(self) -> Mapping[UUID, Payload]:
        """What the nodes have not said to be stored."""
        return self._under_way

    def wait(self) -> None:
        """Return when the nodes have said that everything is stored."""
        if self._unfinished:
            ray.wait(list(self._unfinished), num_returns=len(self._unfinished), fetch_local=False)
        self._settle()

    def _wait_for_room(self) -> None:
        while len(self._unfinished) >= 2 * REQUESTS_A_NODE * len(self._actors):
            ray.wait(list(self._unfinished), num_returns=1, fetch_local=False)
            self._settle()

    def _settle(self) -> None:
        """Forget what is stored; of what could not be, the error is raised from now on, each time."""
        unfinished = list(self._unfinished)
        finished = ray.wait(unfinished, num_returns=len(unfinished), timeout=0)[0] if unfinished else []
        for done in finished:
            self._failed = self._failed or _error_of(done)  # first: an interruption here must not lose it
            for frame in self._unfinished.pop(done):
                self._under_way.pop(frame.id, None)
        if self._failed:
            raise self._failed


def _error_of(done: Any) -> BaseException | None:
    """Why a call has failed, in the words of whoever failed; ``None`` if it has not."""
    failed: BaseException
    try:
        ray.get(done)
    except RayTaskError as error:
        failed = error.cause or error
        if isinstance(failed, LookupError):
            failed = RayError("a process that stores has ended, with what it had")
    except Exception as error:  # raised where it is waited for
        failed = error
    else:
        return None
    return failed


def start_storing(address: Address, nodes: Iterable[str]) -> dict[str, Any]:
    """A storing actor on each node, by its id; they are there until they are killed, or Ray ends.

    Args:
        address: of the server's collection.
        nodes: ids of Ray's nodes.
    """
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    from workers.indexing.storing_actor import MOST_EMBEDDERS, StoringActor

    actor = ray.remote(
        num_cpus=0, max_restarts=-1, concurrency_groups={"keep": MOST_EMBEDDERS, "store": REQUESTS_A_NODE}
    )(StoringActor)
    return {
        node: actor.options(scheduling_strategy=NodeAffinitySchedulingStrategy(node, soft=False)).remote(address)
        for node in nodes
    }
