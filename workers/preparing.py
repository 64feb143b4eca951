"""Before a job: which files it would take up, and what stands against it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from index.address import home, parse_address
from index.interface import Index
from index.opening import check_same, describe_index
from index.privacy import path_hider, privacy_key, require_privacy_key
from index.schema import Description
from index.unfinished import refuse_unfinished_copy
from model.errors import NotAnIndexError, VectorIndexError
from model.metadata import Metadata, read_metadata
from model.runtimes import require_runtime
from model.sources import is_local
from workers.archives import Archive, resolve_archives
from workers.discovery import Root
from workers.labels import label_reader
from workers.ledger import NAME as LEDGER
from workers.ledger import Ledger
from workers.planning import PendingFile, Plan, plan_files
from workers.roots import number_roots
from workers.settings import JobSettings

BUILDING, REPLACED = ".reembedding", ".replaced"
"""Suffixes of the folders beside an index in which a new one is built, and from which the old one is removed."""


def plan_job(settings: JobSettings) -> Plan:
    """What :func:`workers.job.index_archive` would do, without writing or starting anything.

    Raises:
        JobError: an archive does not exist.
        SettingError: the runtime cannot be used.
        VectorIndexError: the folder of the index holds something else, or another model's index.
    """
    folder = home(settings.index)
    metadata = read_metadata(settings.model)
    require_runtime(settings.runtime, settings.model, metadata)
    refuse_unfinished_copy(folder)
    known: tuple[str, ...] = ()
    ledger = None
    if (folder / LEDGER).exists():
        stored = describe_index(settings.index, patient=True)
        check_same(str(settings.index), stored, wanted_description(settings, metadata))
        known, ledger = stored.roots, Ledger(folder, read_only=True)
    plan = Plan()
    for _ in pending_files(settings, number_roots(known, resolve_archives(settings.archives))[1], ledger, plan):
        pass
    return plan


def wanted_description(settings: JobSettings, metadata: Metadata) -> Description:
    """What the index of a job says of itself."""
    return Description(
        model_fingerprint=metadata.fingerprint,
        model_path=str(settings.model.absolute()),
        classes=metadata.classes,
        layers=settings.layers,
        quantization=settings.quantization,
        path_privacy=settings.path_privacy,
        patient_groups=settings.keep_patient_group,
    )


def register_roots(index: Index, archives: Sequence[Archive], model_path: str) -> list[Root]:
    """Give the archives their numbers in the index, where other jobs may do the same at once; return what to walk."""
    while True:
        names, roots = number_roots(index.description.roots, archives)
        index.update_description(roots=names, model_path=model_path)
        if index.description.roots[: len(names)] == names:
            return roots


def pending_files(
    settings: JobSettings, roots: Sequence[Root], ledger: Ledger | None, plan: Plan
) -> Iterator[PendingFile]:
    """The files that a job has to index, while ``plan`` counts; the index's own folder is no part of any archive."""
    folder = home(settings.index)
    name = str(folder).removesuffix(BUILDING)
    own = frozenset(one + suffix for one in {name, os.path.realpath(name)} for suffix in ("", BUILDING, REPLACED))
    return plan_files(
        [replace(root, skip=root.skip | own) for root in roots if not _is_forgotten(root, ledger)],
        ledger,
        plan,
        labels=label_reader(settings.labels),
        limit=settings.limit,
        retry_left_out=settings.retry_left_out,
        hide=_hider(settings),
    )


def _is_forgotten(root: Root, ledger: Ledger | None) -> bool:
    """Whether a root is only a name any more: nothing of it is known, and it is not there.

    A folder that a user has named is there, so that this is a root inside it; files of a list need not be.
    """
    if root.members is not None:
        return False
    holder = root.address if is_local(root.address) else root.address.rpartition("::")[2]
    there = not is_local(holder) or os.path.lexists(holder)
    return not there and not (ledger and ledger.counts(root.number))


def settle_key(settings: JobSettings, ledger: Ledger, index: Index) -> bytes | None:
    """The key of the index's hashes, made anew for a new index; ``None`` if nothing is hashed.

    Raises:
        VectorIndexError: the index has lost its key, without which every file would look new.
    """
    if settings.path_privacy == "plain" and not settings.keep_patient_group:
        return None
    folder = home(settings.index)
    key = privacy_key(folder)
    if key is None and not ledger.counts() and not index.count():
        return privacy_key(folder, create=True)
    return require_privacy_key(folder)


def _hider(settings: JobSettings) -> Callable[[str], str]:
    key = privacy_key(home(settings.index)) if settings.path_privacy == "hash" else None
    return path_hider(key) if key else str


def refuse_lost_index(address: str | Path) -> None:
    """A ledger that knows indexed files would keep them from being indexed into a new shard or collection.

    Raises:
        VectorIndexError: the ledger knows some, and there is no shard or collection.
    """
    folder = home(address)
    if not (folder / LEDGER).exists() or _is_there(address):
        return
    ledger = Ledger(folder, read_only=True)
    known = ledger.counts().get("indexed", 0)
    ledger.close()
    if known:
        raise VectorIndexError(
            f"{parse_address(address)} has lost its points, though {known:,} files are indexed: restore it, or delete "
            f"{folder} and index anew"
        )


def _is_there(address: str | Path) -> bool:
    if isinstance(parse_address(address), Path):
        from index.edge import has_shard

        return has_shard(home(address))
    try:
        describe_index(address, patient=True)
    except NotAnIndexError:
        return False
    return True
