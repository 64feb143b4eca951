"""Opening the ledger of an index: in the folder of an embedded one, in a collection beside a server's."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from index.address import Address
from index.ledger import NAME, Ledger


def open_ledger(address: Address, *, purpose: str, hides_paths: bool = False) -> Ledger:
    """The ledger of an index that exists, to write to it; close it.

    Args:
        address: of the index.
        purpose: what this process does, told to others that work at the same index.
        hides_paths: whether the index hashes paths.

    Raises:
        VectorIndexError: it cannot be opened, or the server cannot be reached.
    """
    if not address.server:
        return Ledger(address.home)
    from index.sharing.opening import open_shared_ledger

    return open_shared_ledger(address, purpose=purpose, hides_paths=hides_paths)


@contextmanager
def reading_ledger(address: Address) -> Iterator[Ledger | None]:
    """The ledger of an index, to read it, until the context ends; ``None`` if there is none.

    Raises:
        VectorIndexError: it cannot be opened, or the server cannot be reached.
    """
    ledger = _find_ledger(address)
    try:
        yield ledger
    finally:
        if ledger:
            ledger.close()


def _find_ledger(address: Address) -> Ledger | None:
    if address.server:
        from index.sharing.opening import find_shared_ledger

        return find_shared_ledger(address)
    return Ledger(address.home, read_only=True) if (address.home / NAME).exists() else None
