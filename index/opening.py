"""Making and opening indexes by their address."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

from index.address import Address, ServerAddress
from index.engines.engine import Index, Searchable
from index.engines.layout import DEFAULT_LAYOUT, Layout
from index.engines.read_only import PrivateCopy, is_read_only
from index.home.description import read_description, write_description
from index.home.lock import IndexLock, holder
from index.home.unfinished import refuse_unfinished_copy
from index.schema import Description
from model.errors import (
    CheckpointError,
    IndexLockedError,
    ModelMismatchError,
    NotAnIndexError,
    NothingThereError,
    VectorIndexError,
)
from model.network.bundled import bundled_with, find_model
from model.network.heads import describe_heads, head_file
from model.network.metadata import read_metadata
from model.network.probe import describe_probe, probe_file

_ASKING_SECONDS = 1.0
_HANDOVER_SECONDS = 0.2

LETTING_GO_SECONDS = 20.0
"""Within which a process that was asked to has let go of an index: its last questions may take so long."""


def describe_index(address: Address, *, patient: bool = False) -> Description:
    """What an index says of itself; an embedded one is not opened for it. A job is ``patient`` with a server.

    Raises:
        NotAnIndexError: there is none at this address.
        VectorIndexError: it is damaged, of another schema version, or cannot be reached.
    """
    if not address.server:
        return read_description(address.home)
    with _open_server(address.server, patient=patient) as index:
        return index.description


def open_index(
    address: Address,
    *,
    purpose: str,
    wait: float = 5.0,
    only_reads: bool = False,
    patient: bool = False,
) -> Index:
    """Open an existing index.

    Args:
        address: of the index.
        purpose: what this process does with it, told to other processes that find it locked.
        wait: seconds to wait for another process to let go of an embedded index; a server serves many.
        only_reads: nothing will be written, so that the folder need not be writable (:mod:`index.engines.read_only`).
        patient: wait for a server that is away, as a job does, and not only as long as a person would.

    Raises:
        NotAnIndexError: there is none at this address.
        IndexLockedError: another process holds it.
        VectorIndexError: it is damaged, of another schema version, an unfinished copy, or cannot be reached.
    """
    refuse_unfinished_copy(address.home)
    if address.server:
        return _open_server(address.server, patient=patient)
    read_description(address.home)
    if only_reads and is_read_only(address.home):
        return _open_read_only(address.home)
    return _open_folder(address.home, purpose, wait, create=False)


def open_to_search(
    address: Address, *, purpose: str, wait: float = 5.0, let_go: Callable[[], None] | None = None
) -> Searchable:
    """Open an existing index, also while another process of this user writes to it.

    That process then answers instead (:mod:`index.engines.owner`): what it has stored is found, up to that moment.

    Args:
        address: of the index.
        purpose: as of :func:`open_index`.
        wait: as of :func:`open_index`; for a process that does not answer.
        let_go: called when another wants to have the index, which is then closed soon; others are answered meanwhile.
            Without it the index is open for moments, in which nobody else need be answered.

    Raises:
        NotAnIndexError, IndexLockedError, VectorIndexError: as :func:`open_index`.
    """
    refuse_unfinished_copy(address.home)
    if address.server:
        return _open_server(address.server, patient=False)
    read_description(address.home)
    begun = time.monotonic()
    while True:  # whoever is about to take it answers soon
        if asked := _ask_owner(address.home):
            return asked
        if is_read_only(address.home):
            return _open_read_only(address.home)
        try:
            lock = IndexLock(address.home, purpose)
            lock.acquire(_HANDOVER_SECONDS)
        except IndexLockedError:
            if time.monotonic() - begun > wait:
                raise
        else:
            return _open_locked(address.home, lock, create=False, answers=let_go is not None, let_go=let_go)


def create_index(
    address: Address,
    description: Description,
    *,
    purpose: str,
    wait: float = 0.0,
    layout: Layout = DEFAULT_LAYOUT,
    patient: bool = True,
) -> Index:
    """Make an index, or open the one that is there if it was made by the same model with the same settings.

    An embedded index is locked against other processes; a server's is open to many at once.

    Args:
        address: of the index.
        description: of the index to make.
        purpose: what this process does with it, told to other processes that find it locked.
        wait: seconds to wait for another process to let go.
        layout: of a new collection of a server.
        patient: wait for a server that is away, as a job does, and not only as long as a person would.

    Raises:
        ModelMismatchError: the index was made by another model, or with other settings.
        NotAnIndexError: the folder exists, is not empty, and holds no index; or the collection is no index.
        IndexLockedError, VectorIndexError: as :func:`open_index`.
    """
    try:
        if not address.server:
            _prepare_folder(address, description)
        else:
            address.home.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise VectorIndexError(f"an index cannot be made in {address.home}: {error.strerror or error}") from error
    if address.server:
        index = _make_collection(address.server, description, layout, patient=patient)
    else:
        index = _open_folder(address.home, purpose, wait, create=True)
    try:
        check_same(address, index.description, description)  # another process may have made it meanwhile
    except ModelMismatchError:
        index.close()
        raise
    return index


def _prepare_folder(address: Address, description: Description) -> None:
    if check_creatable(address, description) is not None:
        return
    address.home.mkdir(parents=True, exist_ok=True)
    write_description(address.home, description)


def check_creatable(address: Address, description: Description, *, patient: bool = False) -> Description | None:
    """Refuse what :func:`create_index` would refuse, without writing anything.

    Returns:
        The description of the index that is there; ``None`` if there is none, so that one would be made.

    Raises:
        ModelMismatchError, NotAnIndexError, VectorIndexError: as :func:`create_index`.
    """
    try:
        existing = describe_index(address, patient=patient)
    except NothingThereError:
        if not address.server:
            _require_place(address.home)
        return None
    except NotAnIndexError as error:
        if not address.server and address.home.is_dir():
            raise NotAnIndexError(f"{address} is not empty and not an index: name a new or empty folder") from error
        raise
    check_same(address, existing, description)
    if not address.server and is_read_only(address.home):
        raise VectorIndexError(f"{address} cannot be written, only searched: 'cbmir copy' it to where you may write")
    return existing


def _require_place(folder: Path) -> None:
    there = next(one for one in (folder, *folder.parents) if one.exists())
    if not there.is_dir():
        raise VectorIndexError(f"an index cannot be made in {folder}: {there} is no folder")
    if not os.access(there, os.W_OK):
        raise VectorIndexError(f"an index cannot be made in {folder}: nothing can be written into {there}")


def check_same(address: Address, existing: Description, wanted: Description) -> None:
    """Refuse to mix features of two models, or points with different vectors, in one index.

    Raises:
        ModelMismatchError: with what differs.
    """
    if existing.model_fingerprint != wanted.model_fingerprint:
        raise ModelMismatchError(
            f"{address} was made by another model ({existing.model_path}, fingerprint "
            f"{existing.model_fingerprint[:8]}, not {wanted.model_fingerprint[:8]}): use that model, another index, or "
            "make this one anew with 'cbmir index --reembed'"
        )
    if existing.layers == wanted.layers and existing.heads != wanted.heads:
        changed = next(name for name in existing.heads if existing.heads[name] != wanted.heads.get(name))
        raise ModelMismatchError(
            f"{address} was made with another head {changed!r} than the one beside {wanted.model_path}: put that one "
            "back, or make the index anew with 'cbmir index --reembed'"
        )
    if existing.probe != wanted.probe:
        raise ModelMismatchError(
            f"{address} was made {_by_probe(existing.probe)}, and {wanted.model_path} would name organs "
            f"{_by_probe(wanted.probe)}: put the probe back as it was, or make the index anew with "
            "'cbmir index --reembed'"
        )
    for setting in ("layers", "quantization", "path_privacy", "patient_groups"):
        there, asked = getattr(existing, setting), getattr(wanted, setting)
        if there != asked:
            raise ModelMismatchError(
                f"{address} has {setting} {there}, not {asked}: leave it as it is, use another index, or make this one "
                "anew with 'cbmir index --reembed'"
            )


def _by_probe(fingerprint: str) -> str:
    return f"by the probe {fingerprint[:8]}" if fingerprint else "without a probe"


def resolve_model(address: Address, description: Description, model: Path | None) -> Path:
    """The model to use with an index: the given one, or the one that made it, where that still lies.

    Raises:
        CheckpointError: the model that made the index is gone, or the file is no model.
        ModelMismatchError: the given model did not make the index, or one of its heads, or its probe, is another now.
    """
    if model:
        path = find_model(model)
    else:
        path = Path(description.model_path)
        if not path.exists():
            path = bundled_with(description.model_fingerprint) or path
        if not path.exists():
            raise CheckpointError(f"the model that made {address} is gone from {path}: name it with --model")
    fingerprint = read_metadata(path).fingerprint
    if fingerprint != description.model_fingerprint:
        raise ModelMismatchError(
            f"{path} (fingerprint {fingerprint[:8]}) did not make {address}, which needs "
            f"{description.model_fingerprint[:8]}, once at {description.model_path}: use that model, or another index"
        )
    heads = describe_heads(path) if description.heads else {}
    for name, wanted in description.heads.items():
        if name not in heads:
            raise CheckpointError(
                f"{address} needs the head {name!r} of {path}: put it back at {head_file(path, name)}"
            )
        if heads[name].fingerprint != wanted:
            raise ModelMismatchError(
                f"{head_file(path, name)} (fingerprint {heads[name].fingerprint[:8]}) did not make {address}, which "
                f"needs {wanted[:8]}: put that one back, or make the index anew with 'cbmir index --reembed'"
            )
    if description.probe:
        probe = describe_probe(path)
        if probe is None:
            raise CheckpointError(f"{address} needs the probe of {path}: put it back at {probe_file(path)}")
        if probe.fingerprint != description.probe:
            raise ModelMismatchError(
                f"{probe_file(path)} (fingerprint {probe.fingerprint[:8]}) did not make {address}, which needs "
                f"{description.probe[:8]}: put that one back, or make the index anew with 'cbmir index --reembed'"
            )
    return path


def _ask_owner(folder: Path) -> Searchable | None:
    """The index by the process that writes to it, if there is one that answers."""
    there = holder(folder)
    if there is None or not there.socket:
        return None
    from index.engines.owner import ask_owner

    return ask_owner(folder, there)


def _open_folder(folder: Path, purpose: str, wait: float, *, create: bool) -> Index:
    return _open_locked(folder, take_lock(folder, purpose, wait), create=create, answers=True)


def _open_locked(
    folder: Path, lock: IndexLock, *, create: bool, answers: bool, let_go: Callable[[], None] | None = None
) -> Index:
    from index.engines.edge import EdgeIndex

    try:
        return EdgeIndex(folder, lock, create=create, answers=answers, let_go=let_go)
    except BaseException:
        lock.release()
        raise


def take_lock(folder: Path, purpose: str, wait: float) -> IndexLock:
    """The lock of an index folder; a process that only searches in the index is asked to let go of it.

    Raises:
        IndexLockedError, VectorIndexError: as :meth:`index.home.lock.IndexLock.acquire`.
    """
    lock = IndexLock(folder, purpose)
    try:
        lock.acquire(0.0)
    except IndexLockedError:
        from index.engines.owner import ask_to_let_go

        begun = time.monotonic()
        patience = wait
        while True:
            if ask_to_let_go(folder):  # again and again: another that searches may have been quicker
                patience = max(wait, LETTING_GO_SECONDS)
            left = patience - (time.monotonic() - begun)
            try:
                lock.acquire(min(_ASKING_SECONDS, max(left, 0.0)))
            except IndexLockedError:
                if left <= _ASKING_SECONDS:
                    raise
            else:
                break
    return lock


def _open_read_only(folder: Path) -> Index:
    from index.engines.edge import EdgeIndex

    copy = PrivateCopy(folder)
    try:
        return EdgeIndex(folder, copy, create=False, shard=copy.path)
    except BaseException:
        copy.release()
        raise


def _open_server(address: ServerAddress, *, patient: bool) -> Index:
    """Open a collection; a job waits for the server in reads, too, a person does not."""
    from index.engines import server
    from index.engines.connection import Connection

    patience = server.WRITE_PATIENCE_SECONDS if patient else server.READ_PATIENCE_SECONDS
    connection = Connection.to(address)
    try:
        return server.ServerIndex(
            connection, address.collection, str(address), patience=(patience, server.WRITE_PATIENCE_SECONDS)
        )
    except BaseException:
        connection.close()
        raise


def _make_collection(address: ServerAddress, description: Description, layout: Layout, *, patient: bool) -> Index:
    from index.engines import server
    from index.engines.collection import make_collection
    from index.engines.connection import Connection

    patience = server.WRITE_PATIENCE_SECONDS if patient else server.READ_PATIENCE_SECONDS
    connection = Connection.to(address)
    try:
        connection.patiently(lambda client: make_collection(client, address.collection, description, layout), patience)
    finally:
        connection.close()
    return _open_server(address, patient=patient)
