"""Snapshots that a Qdrant server wrote of an index: their points, with the ledger of its jobs, into a new index."""

from __future__ import annotations

import json
import shutil
import tarfile
import tempfile
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import qdrant_edge

from index.address import Address
from index.engines.layout import DEFAULT_LAYOUT, Layout
from index.home.description import description_from, write_description
from index.home.key import KEY_NAME
from index.ledger import NAME as LEDGER
from index.opening import open_index
from index.schema import SCHEMA_VERSION, Description
from index.upkeep.copy import CopyResult, copy_index, copy_ledger
from model.errors import NotAnIndexError, SettingError, VectorIndexError

_CONFIG = "config.json"
_BATCH = 512


def is_snapshot(path: Path) -> bool:
    """Whether a file is a snapshot of a Qdrant collection, by its content."""
    try:
        with tarfile.open(path, "r:") as tar:
            return _CONFIG in islice((entry.name for entry in tar), 10_000)
    except (OSError, tarfile.TarError):
        return False


def restore_snapshots(
    snapshots: Sequence[Path],
    target: Address,
    *,
    ledger: Path | None = None,
    layout: Layout = DEFAULT_LAYOUT,
    progress: Callable[[str, int, int], None] | None = None,
) -> CopyResult:
    """Bring the points of snapshots into a new index, embedded or on a server, and compare them.

    Args:
        snapshots: of one collection: one file, or on a cluster one a node, as each holds the shards of its node.
        target: of the new index.
        ledger: folder of the jobs' ledger, reports and key; without one the next job embeds everything again.
        layout: of a new collection of a server.
        progress: told the stage, how many points are done, and of how many.

    Raises:
        NotAnIndexError: a snapshot is none of an index of this program.
        SettingError: the snapshots are of different indexes, or not of all shards, ledger or key do not exist, or the
            target is taken.
        VectorIndexError: a snapshot is damaged, or the index cannot be written.
    """
    descriptions = [_describe(snapshot) for snapshot in snapshots]
    if any(one != descriptions[0] for one in descriptions):
        raise SettingError("the snapshots are of different indexes: give those of one, one a node")
    _check_ledger(ledger, descriptions[0])
    _require_every_shard(snapshots)
    with tempfile.TemporaryDirectory(prefix="cbmir-restore-") as work:
        whole = Path(work, "index")
        try:
            for number, shard in enumerate(_shards(snapshots, Path(work))):
                folder = whole if number == 0 else Path(work, "more")
                _unpack(shard, folder, descriptions[0])
                if number:
                    _add(folder, whole)
                    shutil.rmtree(folder)
            if ledger:
                copy_ledger(ledger, whole)  # with what a job that was killed has left in the log beside it
        except (OSError, tarfile.TarError) as error:
            raise VectorIndexError(f"{snapshots[0]} cannot be unpacked in {work}: {error}") from error
        name = ", ".join(str(snapshot.absolute()) for snapshot in snapshots)
        return copy_index(Address(whole), target, layout=layout, progress=progress, name=name)


def _check_ledger(folder: Path | None, description: Description) -> None:
    """Say what lacks of the jobs' folder before anything is unpacked.

    Raises:
        SettingError: it holds no ledger, or not the key without which nothing can be added to the index.
    """
    if folder and not (folder / LEDGER).is_file():
        raise SettingError(f"{folder} holds no {LEDGER}: name the folder of the jobs' ledger by --ledger")
    hides = description.path_privacy == "hash" or description.patient_groups
    if hides and not (folder and (folder / KEY_NAME).is_file()):
        raise SettingError(f"the index hashes paths or patients: name the folder that holds its {KEY_NAME} by --ledger")


def _config(snapshot: Path) -> dict[str, Any]:
    try:
        with tarfile.open(snapshot, "r:") as tar:
            file = tar.extractfile(_CONFIG)
            assert file
            return dict(json.load(file))
    except (OSError, tarfile.TarError, KeyError, ValueError, TypeError) as error:
        raise VectorIndexError(f"{snapshot} is no snapshot of a collection, or is damaged: {error}") from error


def _numbers(tar: tarfile.TarFile) -> set[int]:
    """The shards that a snapshot holds."""
    return {int(number) for entry in tar if (number := entry.name.partition("/")[0]).isdigit()}


def _require_every_shard(snapshots: Sequence[Path]) -> None:
    """Refuse a part of an index that would look like the whole.

    Raises:
        SettingError: shards are missing.
    """
    found: set[int] = set()
    for snapshot in snapshots:
        with tarfile.open(snapshot, "r:") as tar:
            found |= _numbers(tar)
    wanted = int((_config(snapshots[0]).get("params") or {}).get("shard_number") or 1)
    if missing := sorted(set(range(wanted)) - found):
        named = ", ".join(map(str, missing))
        raise SettingError(f"shards {named} of {wanted} are in none of the snapshots: give those of all nodes")


def _describe(snapshot: Path) -> Description:
    values: Any = (_config(snapshot).get("metadata") or {}).get("cbmir")
    if not isinstance(values, dict):
        raise NotAnIndexError(f"{snapshot} is of a collection, but of no index of cbmir")
    if values.get("schema_version") != SCHEMA_VERSION:
        raise VectorIndexError(f"{snapshot} has schema version {values.get('schema_version')}, not {SCHEMA_VERSION}")
    try:
        return description_from(values)
    except (TypeError, KeyError) as error:
        raise VectorIndexError(f"{snapshot} describes its index wrongly ({error})") from error


def _shards(snapshots: Sequence[Path], work: Path) -> Iterator[Path]:
    """Each shard of each snapshot as a tar file of its own, one at a time."""
    for snapshot in snapshots:
        with tarfile.open(snapshot, "r:") as tar:
            for number in sorted(_numbers(tar)):
                path = work / "shard.tar"
                with tarfile.open(path, "w") as shard:
                    for entry in tar:
                        if entry.isfile() and entry.name.startswith(f"{number}/"):
                            # A new header, as the engine does not read the one of a file with holes.
                            plain = tarfile.TarInfo(entry.name.removeprefix(f"{number}/"))
                            plain.size = entry.size
                            shard.addfile(plain, tar.extractfile(entry))
                yield path
                path.unlink()


def _unpack(shard: Path, folder: Path, description: Description) -> None:
    """Make an index folder of one shard."""
    folder.mkdir()
    try:
        qdrant_edge.EdgeShard.unpack_snapshot(str(shard), str(folder / "shard"))
        qdrant_edge.EdgeShard.load(str(folder / "shard")).close()  # which writes the embedded engine's own settings
    except Exception as error:  # the engine's errors are all bare
        raise VectorIndexError(f"the snapshot's shard cannot be unpacked: {error}") from error
    write_description(folder, description)


def _add(source: Path, target: Path) -> None:
    """Add the points of one index folder to another."""
    with (
        open_index(Address(source), purpose="cbmir restore") as taken,
        open_index(Address(target), purpose="cbmir restore") as made,
    ):
        points = taken.points()
        while batch := list(islice(points, _BATCH)):
            made.upsert(batch)
        made.flush()
