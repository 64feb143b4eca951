"""An index that a program searches in for hours, and lets go of when another process wants to write to it.

Qdrant Edge lets one process open a shard. Whoever keeps an embedded index open answers others meanwhile
(:mod:`index.engines.owner`); a job that comes asks it to let go, and answers in its turn until it has ended. So neither
waits for the other, and what a job has stored is found at once. A server's collection is open to all.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from types import TracebackType
from typing import Final, Self, TypeVar

from index.address import Address
from index.engines.engine import Searchable
from index.home.lock import holder
from index.opening import describe_index, open_to_search
from index.schema import Description
from model.errors import IndexLockedError, ModelMismatchError

GRACE_SECONDS: Final = 5.0
"""For which an index that was let go of is left to the process that asked for it."""

PATIENCE_SECONDS: Final = 10.0
"""For which a question waits while the index passes from one process to the other."""

_HANDOVER_SECONDS = 1.0
"""Between a process that has taken an index and its first answer; meanwhile all other questions wait."""

_POLL_SECONDS = 0.1
_SERVER_THREADS = 8
"""Threads that ask a server: each has a connection of its own."""

Result = TypeVar("Result")


class KeptIndex:
    """An index, open as long as nobody wants to write to it; close it, or use it as a context manager.

    Args:
        address: of the index.
        purpose: what this process does with it, told to others.

    Attributes:
        description: what the index said of itself when that was looked at last.

    Raises:
        NotAnIndexError, IndexLockedError, VectorIndexError: as :func:`index.opening.open_to_search`.
    """

    def __init__(self, address: Address, purpose: str) -> None:
        self.description: Description = describe_index(address)
        self._address, self._purpose = address, purpose
        self._changed = threading.Condition()
        self._index: Searchable | None = None
        self._questions = 0
        self._leaving, self._left_until = False, 0.0
        self._threads = ThreadPoolExecutor(_SERVER_THREADS, "cbmir-asking") if address.server else None
        with self.using():
            pass

    def ask(self, question: Callable[[Searchable], Result]) -> Result:
        """The answer of the open index, wherever it is open now.

        Raises:
            IndexLockedError: another process holds it and does not answer.
            ModelMismatchError: the index was made anew by another model meanwhile.
            VectorIndexError: the engine refused.
        """
        if self._threads:
            return self._threads.submit(self._ask, question).result()
        return self._ask(question)

    def _ask(self, question: Callable[[Searchable], Result]) -> Result:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while True:
            index: Searchable | None = None
            try:
                with self.using() as index:
                    return question(index)
            except IndexLockedError:
                if index is None or index.asked is None or time.monotonic() > deadline:
                    raise
            time.sleep(_POLL_SECONDS)

    def roots(self, highest: int) -> tuple[str, ...]:
        """The roots of the index, up to that number at least: a job elsewhere may have added some since it was opened.

        Raises:
            ModelMismatchError: the index was made anew by another model meanwhile.
            VectorIndexError: it cannot be read.
        """
        if highest >= len(self.description.roots):
            self.description = self._unchanged(describe_index(self._address))
        return self.description.roots

    @contextmanager
    def using(self) -> Iterator[Searchable]:
        """The index for one question; it is not let go of meanwhile."""
        with self._changed:
            while self._leaving:
                self._changed.wait()
            if self._index is None:
                self._index = self._opened()
            index = self._index
            self._questions += 1
        try:
            yield index
        except IndexLockedError:
            if index.asked:  # the job that answered has ended, or is busy: the next question looks anew
                self._forget(index)
            raise
        finally:
            with self._changed:
                self._questions -= 1
                self._changed.notify_all()

    def _opened(self) -> Searchable:
        while time.monotonic() < self._left_until and not self._is_held():
            time.sleep(_POLL_SECONDS)
        index = open_to_search(self._address, purpose=self._purpose, wait=_HANDOVER_SECONDS, let_go=self._let_go)
        try:
            self.description = self._unchanged(index.description)
        except ModelMismatchError:
            index.close()
            raise
        return index

    def _unchanged(self, description: Description) -> Description:
        if description.makers != self.description.makers:
            raise ModelMismatchError(f"{self._address} was made anew by another model meanwhile: start this again")
        return description

    def _let_go(self) -> None:
        """Close the index once the questions of this moment are answered; said by another process that waits for it."""
        threading.Thread(target=self._leave, name="cbmir-letting-go", daemon=True).start()

    def _leave(self) -> None:
        with self._changed:
            if self._leaving:
                return
            self._leaving = True
            while self._questions:
                self._changed.wait()
            try:
                if self._index:
                    self._index.close()
            finally:
                self._index, self._leaving = None, False
                self._left_until = time.monotonic() + GRACE_SECONDS
                self._changed.notify_all()
        # A job may have ended before the next question comes, which is not to wait for it then.
        while time.monotonic() < self._left_until:
            if self._is_held():
                self._left_until = 0.0
            time.sleep(_POLL_SECONDS)

    def _is_held(self) -> bool:
        return holder(self._address.home) is not None

    def _forget(self, index: Searchable) -> None:
        with self._changed:
            if self._index is index:
                index.close()
                self._index = None

    def close(self) -> None:
        """Let go of the index for good, once the questions of this moment are answered."""
        if self._threads:
            self._threads.shutdown()
        with self._changed:
            while self._questions:
                self._changed.wait()
            if self._index:
                self._index.close()
            self._index = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
