"""Opening the ledger of an index, wherever that lies."""

from __future__ import annotations

import os
import shutil
import sqlite3
import tempfile
import weakref
from collections.abc import Callable
from contextlib import closing
from functools import partial
from pathlib import Path

from index.address import Address
from index.engines.server import READ_PATIENCE_SECONDS, WRITE_PATIENCE_SECONDS
from index.ledger import NAME, Ledger
from index.sharing.collection import LedgerCollection
from index.sharing.shared_ledger import SharedLedger
from model.errors import VectorIndexError


def open_shared_ledger(address: Address, *, purpose: str, hides_paths: bool) -> Ledger:
    """The ledger of a server's index, to write to it; made if there is none."""
    assert address.server
    connect = partial(LedgerCollection, address.server)
    with closing(connect(WRITE_PATIENCE_SECONDS)) as collection:
        identity = collection.identity() or collection.make()
    try:
        address.home.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise VectorIndexError(
            f"{address.home} cannot be made ({error.strerror or error}): name another folder by CBMIR_STATE"
        ) from error
    _set_aside_another(address, identity)
    return SharedLedger(address.home, connect, identity, purpose=purpose, hides_paths=hides_paths)


def find_shared_ledger(address: Address) -> Ledger | None:
    """The ledger of a server's index, to read it; ``None`` if neither the server nor this machine has one."""
    assert address.server
    connect = partial(LedgerCollection, address.server)
    with closing(connect(READ_PATIENCE_SECONDS)) as collection:
        identity = collection.identity()
    if identity is None:
        return Ledger(address.home, read_only=True) if (address.home / NAME).exists() else None
    try:
        address.home.mkdir(parents=True, exist_ok=True)
    except OSError:
        return _without_home(connect, identity)
    if not os.access(address.home, os.W_OK):
        return _without_home(connect, identity)
    _set_aside_another(address, identity)
    return SharedLedger(address.home, connect, identity, purpose=None)


def _without_home(connect: Callable[[float], LedgerCollection], identity: str) -> Ledger:
    """A copy for this once, where nothing can be kept."""
    folder = tempfile.mkdtemp(prefix="cbmir-ledger-")
    ledger = SharedLedger(Path(folder), connect, identity, purpose=None)
    weakref.finalize(ledger, shutil.rmtree, folder, ignore_errors=True)
    return ledger


def _set_aside_another(address: Address, identity: str) -> None:
    """Keep this machine's copy of an earlier index of the same name under another name."""
    path = address.home / NAME
    if not path.exists():
        return
    with closing(sqlite3.connect(path)) as database:
        try:
            row = database.execute("SELECT identity FROM shared").fetchone()
        except sqlite3.OperationalError:  # never shared
            return
        if row is None or row[0] == identity:
            return
        database.execute("PRAGMA journal_mode = DELETE")  # nothing is left in a log beside it
    path.rename(path.with_name(f"ledger-{row[0]}.sqlite"))
