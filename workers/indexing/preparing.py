"""Before a job: which files it would take up, and what stands against it."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from index.address import Address
from index.answers.viewer import check_viewer_url
from index.engines.engine import Index
from index.home.key import path_hider, privacy_key, require_privacy_key
from index.home.unfinished import BUILDING, REPLACED, refuse_unfinished_copy
from index.ledger import Ledger
from index.ledgers import reading_ledger
from index.opening import check_creatable, describe_index, resolve_model
from index.roots import Archive, Root, number_roots
from index.schema import Description
from model.errors import NotAnIndexError, SettingError, VectorIndexError
from model.images.sources import is_local
from model.network.bundled import find_model
from model.network.heads import default_layers, describe_heads, model_layers
from model.network.metadata import Metadata, read_metadata
from model.network.probe import describe_probe
from model.network.runtimes import computes_on_gpus, require_runtime
from model.pacs.address import is_pacs
from model.suggestions import unknown_name
from workers.indexing.archives import resolve_archives
from workers.indexing.labels import label_reader, refuse_unmatched_labels
from workers.indexing.pacs_walk import PacsWalk
from workers.indexing.planning import PendingFile, Plan, plan_files
from workers.indexing.settings import JobSettings, Machine, check_actors


@dataclass(frozen=True, slots=True)
class Checked:
    """A job against which nothing stands that could be known beforehand.

    Attributes:
        settings: with the model that will be used.
        metadata: of that model.
        stored: what the index says of itself; ``None`` if it will be made.
        archives: resolved.
    """

    settings: JobSettings
    metadata: Metadata
    stored: Description | None
    archives: list[Archive]

    @property
    def model(self) -> Path:
        """The model that will be used."""
        assert self.settings.model is not None
        return self.settings.model


def check_job(settings: JobSettings, *, patient: bool) -> Checked:
    """Refuse now what would be refused later; nothing is written or started.

    Args:
        settings: of the job.
        patient: wait for a server that is away.

    Raises:
        JobError: an archive does not exist.
        CheckpointError: the model cannot be read.
        RepositoryError: the labels cannot be read, or belong to other files.
        SettingError: settings contradict each other, or the runtime cannot be used.
        VectorIndexError: the index cannot be made there, is another model's, or has lost something.
    """
    archives = resolve_archives(settings.archives, access=settings.pacs.access)
    if settings.prune and settings.limit is not None:
        raise SettingError(
            "--prune and --limit exclude each other: what lies behind the limit is not looked for, and would be gone"
        )
    if settings.prune and not settings.pacs.selection.is_everything and any(is_pacs(one.address) for one in archives):
        raise SettingError(
            "--prune excludes --where and --since: what they leave out of a PACS is not looked for, and would be gone"
        )
    settings.pacs.access.check()
    check_viewer_url(settings.viewer_url)
    if settings.machine.actors:
        check_actors(settings.machine.actors)
    settings = _completed(settings, patient=patient)
    assert settings.model is not None
    metadata = read_metadata(settings.model)
    require_runtime(settings.machine.runtime, settings.model, metadata)
    if settings.machine.gpus and settings.machine.runtime != "torch":
        raise SettingError(f"--runtime {settings.machine.runtime} computes on processors only: leave --gpus out")
    settings = replace(settings, machine=_on_what_computes(settings.machine, settings.model, metadata))
    refuse_unmatched_labels(settings.labels, archives)
    folder = settings.index.home
    refuse_unfinished_copy(folder)
    stored = check_creatable(settings.index, wanted_description(settings, metadata), patient=patient)
    refuse_lost_index(settings.index, there=stored is not None)
    if stored and (stored.path_privacy == "hash" or stored.patient_groups):
        _require_key(settings.index)
    return Checked(settings, metadata, stored, archives)


def _on_what_computes(machine: Machine, model: Path, metadata: Metadata) -> Machine:
    """Leave GPUs alone that would be taken without having been asked for, where the model is not computed there."""
    if machine.gpus == 0 or machine.runtime != "torch" or computes_on_gpus(metadata):
        return machine
    if machine.gpus and not machine.ray_address:
        raise SettingError(
            f"--gpus: {model} holds an ONNX file, which the ONNX Runtime that is installed computes on processors "
            "only: pip install onnxruntime-gpu, name another model, or leave --gpus out"
        )
    return replace(machine, gpus=machine.gpus or 0.0)


def _completed(settings: JobSettings, *, patient: bool) -> JobSettings:
    """The settings with a model and layers: by default those of the index, and its probe only if the index has it."""
    if settings.model and settings.layers:
        return settings
    try:
        stored = describe_index(settings.index, patient=patient)
    except NotAnIndexError:
        model = settings.model or find_model(None, settings.layers)
        return replace(settings, model=model, layers=settings.layers or default_layers(model))
    if settings.model:  # another model than made it is refused for that, and not for its layers
        same = stored.layers and set(stored.layers) <= model_layers(settings.model).keys()
        return replace(settings, layers=tuple(stored.layers) if same else default_layers(settings.model))
    return replace(
        settings,
        model=resolve_model(settings.index, stored, None),
        layers=settings.layers or tuple(stored.layers),
        probe=settings.probe and bool(stored.probe),
    )


def plan_job(settings: JobSettings) -> Plan:
    """What :mod:`workers.indexing.job` would do, without writing or starting anything; it refuses the same.

    Only a lock is not looked at: a job may be running now.

    Raises:
        CbmirError: as :func:`check_job`, :func:`workers.indexing.moving.find_move`.
    """
    checked = check_job(settings, patient=False)
    settings = checked.settings
    known = checked.stored.roots if checked.stored else ()
    with reading_ledger(settings.index) as ledger:
        if settings.moved_from:
            from workers.indexing.moving import find_move

            move = find_move(settings, checked.archives, known, ledger)
            known = move.roots(known)
        plan = Plan()
        for _ in pending_files(settings, number_roots(known, checked.archives)[1], ledger, plan):
            pass
        return plan


def wanted_description(settings: JobSettings, metadata: Metadata) -> Description:
    """What the index of a job says of itself.

    Raises:
        SettingError: the model has no such layer.
        CheckpointError: a head, or the probe, is damaged.
    """
    assert settings.model is not None
    heads, values = describe_heads(settings.model), model_layers(settings.model)
    probe = describe_probe(settings.model) if settings.probe else None
    for layer in settings.layers:
        if layer not in values:
            raise SettingError(f"--layers {','.join(settings.layers)}: {unknown_name('layer', layer, tuple(values))}")
    return Description(
        model_fingerprint=metadata.fingerprint,
        model_path=str(settings.model.absolute()),
        classes=probe.classes if probe else metadata.classes,
        layers=settings.layers,
        dimensions={layer: values[layer] for layer in settings.layers},
        heads={layer: heads[layer].fingerprint for layer in settings.layers if layer in heads},
        dot_layers=tuple(layer for layer in settings.layers if layer in metadata.dot_layers),
        probe=probe.fingerprint if probe else "",
        quantization=settings.quantization,
        path_privacy=settings.privacy.paths,
        patient_groups=settings.privacy.keep_patient_group,
        viewer_url=settings.viewer_url,
    )


def register_roots(index: Index, archives: Sequence[Archive], model_path: str, viewer_url: str = "") -> list[Root]:
    """Give the archives their numbers in the index, where other jobs may do the same at once; return what to walk."""
    while True:
        names, roots = number_roots(index.description.roots, archives)
        index.update_description(roots=names, model_path=model_path, viewer_url=viewer_url)
        if index.description.roots[: len(names)] == names:
            return roots


def pacs_walk(settings: JobSettings, ledger: Ledger | None) -> PacsWalk:
    """How a PACS is walked, from where the last job that came to its end had seen everything."""
    marks: dict[str, str] = {}
    last = next((job for job in ledger.jobs() if job.outcome == "complete" and job.report), None) if ledger else None
    if last and last.report:
        marks = json.loads(last.report).get("pacs_marks", {})
    return PacsWalk(settings.pacs.access.to_list, settings.pacs.selection, marks)


def pending_files(
    settings: JobSettings, roots: Sequence[Root], ledger: Ledger | None, plan: Plan, pacs: PacsWalk | None = None
) -> Iterator[PendingFile]:
    """The files that a job has to index, while ``plan`` counts; the index's own folder is no part of any archive."""
    folder = settings.index.home
    name = str(folder).removesuffix(BUILDING)
    own = frozenset(one + suffix for one in {name, os.path.realpath(name)} for suffix in ("", BUILDING, REPLACED))
    walked = [root for root in roots if not _is_forgotten(root, ledger)]
    return plan_files(
        [replace(root, skip=root.skip | own, nested=settings.nested) for root in walked],
        ledger,
        plan,
        labels=label_reader(settings.labels),
        limit=settings.limit,
        retry_left_out=settings.retry_left_out,
        hide=hider(settings),
        pacs=pacs or pacs_walk(settings, ledger),
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


def provide_key(settings: JobSettings, ledger: Ledger, index: Index) -> bytes | None:
    """The key of the index's hashes, made anew for a new index; ``None`` if nothing is hashed.

    Raises:
        VectorIndexError: the index has lost its key, without which every file would look new.
    """
    if settings.privacy.paths == "plain" and not settings.privacy.keep_patient_group:
        return None
    folder = settings.index.home
    key = privacy_key(folder)
    if key is None and not ledger.counts() and not index.count():
        return privacy_key(folder, create=True)
    return require_privacy_key(folder)


def hider(settings: JobSettings) -> Callable[[str], str]:
    """How names below an archive are stored: as they are, or as keyed hashes."""
    key = privacy_key(settings.index.home) if settings.privacy.paths == "hash" else None
    return path_hider(key) if key else str


def _require_key(address: Address) -> None:
    """The key of hashes that are stored already: without it every file would look new."""
    with reading_ledger(address) as ledger:
        known = bool(ledger and ledger.counts())
    if known:
        require_privacy_key(address.home)


def refuse_lost_index(address: Address, *, there: bool) -> None:
    """Refuse an index that has lost its points while its ledger still lists indexed files.

    A job would take these files for indexed, and leave them out of the new shard or collection.

    Args:
        address: of the index.
        there: whether the index describes itself.

    Raises:
        VectorIndexError: the ledger knows some, and there is no shard or collection.
    """
    folder = address.home
    if not address.server:
        from index.engines.edge import has_shard

        there = has_shard(folder)
    if there:
        return
    with reading_ledger(address) as ledger:
        known = ledger.counts().get("indexed", 0) if ledger else 0
    if known:
        ledgers = f"the collection {address.server.collection}-ledger and {folder}" if address.server else folder
        raise VectorIndexError(
            f"{address} has lost its points, though {known:,} files are indexed: restore it, or delete {ledgers} and "
            "index anew"
        )
