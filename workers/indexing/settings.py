"""What an indexing job is asked for, and what it tells while it runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from index.address import Address
from index.engines.engine import Statistics
from index.engines.layout import Layout
from index.roots import Archive
from index.schema import PathPrivacy, Quantization
from model.errors import SettingError
from model.network.runtimes import Runtime
from model.pacs.access import BY_DEFAULT, Access
from model.pacs.client import EVERYTHING, Selection
from workers.indexing.manners import NO_LIMITS, Manners
from workers.indexing.planning import Plan
from workers.indexing.report import FileLeftOut, JobReport

if TYPE_CHECKING:
    from workers.indexing.counters import StageCounts
    from workers.indexing.sink import SinkCounts

Stage = Literal["rebuilding", "verifying", "starting", "loading", "indexing", "optimizing", "done"]
"""Ledger and index are compared; Ray starts; its workers load the network; images are read, embedded and stored; the
vector index is built; nothing more is to do."""


@dataclass(frozen=True, slots=True)
class Machine:
    """What computes, here or in a cluster; ``None`` lets the machine decide.

    Attributes:
        runtime: what computes the network.
        actors: least and most embedding actors.
        gpus: GPUs of each actor, which may be a fraction.
        batch_size: frames that an actor embeds at once.
        ray_address: cluster to join.
        cpus: processors of a Ray started here.
        file_seconds: time after which a file's decoder counts as hanging.
        stall_seconds: time after which a job is given up in which nothing moves any more.
        debug: show what Ray says.
    """

    runtime: Runtime = "torch"
    actors: tuple[int, int] | None = None
    gpus: float | None = None
    batch_size: int | None = None
    ray_address: str | None = None
    cpus: int | None = None
    file_seconds: float = 120.0
    stall_seconds: float = 1800.0
    debug: bool = False


@dataclass(frozen=True, slots=True)
class Privacy:
    """What of a file may reach the index.

    Attributes:
        paths: see :data:`index.schema.PathPrivacy`.
        keep_patient_group: store a keyed hash of the Patient ID with each point.
        skip_burned_in: leave out what says that an annotation is burned into its pixels.
    """

    paths: PathPrivacy = "plain"
    keep_patient_group: bool = False
    skip_burned_in: bool = False


@dataclass(frozen=True, slots=True)
class PacsSettings:
    """What of a PACS is indexed, and how it is spoken to.

    Attributes:
        selection: which series.
        manners: how fast, and when.
        access: by how many connections, and as whom.
    """

    selection: Selection = EVERYTHING
    manners: Manners = NO_LIMITS
    access: Access = BY_DEFAULT


@dataclass(frozen=True, slots=True)
class JobSettings:
    """What to index, and how.

    Attributes:
        archives: folders, files and addresses, as :func:`workers.indexing.archives.resolve_archives` takes them.
        index: where it is, or will be made.
        model: path; by default the model that made the index, for a new one the bundled model.
        layers: layers to store as named vectors; by default those of the index, for a new one the model's default.
        probe: name organs by the probe beside the model, if there is one, and the index, if it is there, has it.
        quantization: of the copy that is searched first.
        labels: ``folder`` (the first folder below an archive names the true class), or a CSV or Parquet manifest with
            ``path`` and ``label``.
        limit: index only so many files.
        machine: what computes.
        privacy: what of a file may reach the index.
        pacs: of archives that are a PACS.
        nested: walk zip and tar files among the files as folders, one level deep.
        retry_left_out: try again what an earlier job left out.
        repair: embed again the files whose points the index has lost (:mod:`index.upkeep.verify`).
        prune: remove the points of files that are gone.
        moved_from: old address of an indexed archive that was moved to the address of this job's one archive.
        report: where to write the JSON report, beside the copy in the index folder.
        layout: of a new collection of a server.
        viewer_url: address of a viewer that the index keeps (:mod:`index.answers.viewer`); empty: as it was.
    """

    archives: tuple[Archive | str | Path, ...]
    index: Address
    model: Path | None = None
    layers: tuple[str, ...] = ()
    probe: bool = True
    quantization: Quantization = "turbo4"
    labels: str | None = None
    limit: int | None = None
    machine: Machine = Machine()
    privacy: Privacy = Privacy()
    pacs: PacsSettings = PacsSettings()
    nested: bool = True
    retry_left_out: bool = False
    repair: bool = False
    prune: bool = False
    moved_from: str | None = None
    report: Path | None = None
    layout: Layout = field(default_factory=Layout)
    viewer_url: str = ""


def check_actors(actors: tuple[int, int]) -> None:
    """Refuse least and most numbers of actors that contradict each other.

    Raises:
        SettingError: they do.
    """
    if not 1 <= actors[0] <= actors[1]:
        raise SettingError(f"--actors {actors[0]}:{actors[1]} makes no sense: give MIN:MAX with 1 <= MIN <= MAX")


@dataclass(frozen=True, slots=True)
class Progress:
    """A job at one moment: its plan so far, the stages' counts, and files stored or left out.

    Attributes:
        left_out: files left out so far; ``pending_left_out`` are those of them that the plan counts as pending.
        graph: the index while its graph is built, where the engine tells.
    """

    stage: Stage
    plan: Plan
    stages: StageCounts | None
    sink: SinkCounts | None
    left_out: int
    pending_left_out: int = 0
    graph: Statistics | None = None


class JobObserver:
    """Told of a job's progress; does nothing unless overridden."""

    def progress(self, progress: Progress) -> None:
        """Something has moved."""

    def left_out(self, file: FileLeftOut) -> None:
        """A file was left out, or some frames of it."""

    def stalled(self, seconds: float, nodes: str) -> None:
        """No image has come for so long, while ``nodes`` of Ray answer; called in a thread of its own."""

    def worker_lost(self, files: int, why: str) -> None:
        """A worker or its node was lost, as Ray's ``why`` says: so many files are done again."""

    def ended(self, report: JobReport) -> None:
        """The job is over, whatever its outcome."""

    def may_prune(self, _files: int, /) -> bool:
        """Whether the points of so many files that are gone may be removed."""
        return True


class Observers(JobObserver):
    """Tells several; files are pruned if none of them objects."""

    def __init__(self, observers: Sequence[JobObserver]) -> None:
        self._observers = observers

    def progress(self, progress: Progress) -> None:
        """Tell all."""
        for observer in self._observers:
            observer.progress(progress)

    def left_out(self, file: FileLeftOut) -> None:
        """Tell all."""
        for observer in self._observers:
            observer.left_out(file)

    def stalled(self, seconds: float, nodes: str) -> None:
        """Tell all."""
        for observer in self._observers:
            observer.stalled(seconds, nodes)

    def worker_lost(self, files: int, why: str) -> None:
        """Tell all."""
        for observer in self._observers:
            observer.worker_lost(files, why)

    def ended(self, report: JobReport) -> None:
        """Tell all."""
        for observer in self._observers:
            observer.ended(report)

    def may_prune(self, files: int, /) -> bool:
        """Ask all, until one objects."""
        return all(observer.may_prune(files) for observer in self._observers)
