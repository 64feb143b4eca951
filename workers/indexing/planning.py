"""What a job has to do: the files that are new or changed, as a stream, in windows."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from index.ledger import FileKey, Known, Ledger
from index.roots import Root, below
from model.images.sources import INSIDE, join
from model.pacs.address import is_pacs
from workers.indexing.discovery import discover
from workers.indexing.found import FoundFile
from workers.indexing.pacs_walk import PacsWalk

WINDOW_FILES = 200_000
"""Most files in one window: about 100 MB of paths and bookkeeping."""

WINDOW_SECONDS = 10.0
"""After so long a window is closed with what was found, so that a slow file system does not delay the first image."""

Labels = Callable[[str, str], str | None]
"""Address of an archive and path below it → the known true class, or ``None``."""


@dataclass(frozen=True, slots=True)
class PendingFile:
    """A file that a job has to index.

    Attributes:
        key: under which the ledger knows it.
        address: where it is read.
        shown: its address in reports, which may hide names.
        size, mtime_ns: see :class:`workers.indexing.discovery.FoundFile`.
        label: its true class, if known.
    """

    key: FileKey
    address: str
    shown: str
    size: int
    mtime_ns: int
    label: str | None


@dataclass(frozen=True, slots=True)
class Gone:
    """Files that the ledger knows and the roots no longer hold; only a walk that came to its end knows them.

    Attributes:
        files: may be removed from the index.
        empty: archives without any file now, of which the ledger knows some: perhaps they are not mounted.
    """

    files: tuple[FileKey, ...]
    empty: tuple[str, ...]


@dataclass(slots=True)
class Plan:
    """Counts of a walk, growing while it goes on; complete once ``finished``.

    Attributes:
        new, changed, unchanged: files by what the ledger knows of them.
        left_out_before: unchanged files that an earlier job left out.
        in_part_before: unchanged files of which an earlier job left some frames out.
        bytes_pending: size of the new and changed files.
        unreadable: what could not be looked at: path → why.
        labelled: files for which a label was found.
        limited: whether the walk was ended by its limit, with more files to index behind it.
        gone: ``None`` until the walk has come to its end, so that a walk cut short can remove nothing, whatever cut it.
    """

    new: int = 0
    changed: int = 0
    unchanged: int = 0
    left_out_before: int = 0
    in_part_before: int = 0
    bytes_pending: int = 0
    unreadable: dict[str, str] = field(default_factory=dict)
    labelled: int = 0
    limited: bool = False
    gone: Gone | None = None

    @property
    def finished(self) -> bool:
        """Whether every file under the roots was looked at."""
        return self.gone is not None

    @property
    def total(self) -> int | None:
        """Files to index, once their number will not grow any more."""
        return self.pending if self.finished or self.limited else None

    @property
    def pending(self) -> int:
        """Files to index."""
        return self.new + self.changed


def plan_files(
    roots: Sequence[Root],
    ledger: Ledger | None,
    plan: Plan,
    *,
    labels: Labels | None = None,
    limit: int | None = None,
    retry_left_out: bool = False,
    hide: Callable[[str], str] = str,
    pacs: PacsWalk | None = None,
) -> Iterator[PendingFile]:
    """Walk the roots and yield what must be indexed, counting everything in ``plan``.

    A file is unchanged if its size and time are those of the ledger and its label is not another one. Without a ledger
    everything is new. Ledger, plan and keys know paths only as ``hide`` gives them (see :mod:`index.home.key`).
    """
    files: dict[str, int] = {}
    empty: dict[str, str] = {}
    gone: list[FileKey] = []
    for part in roots:
        number, start = part.number, part.start
        everything = pacs is None or pacs.selection.is_everything or not is_pacs(start)
        whole_directories = everything and part.is_whole
        asked = _OfRoot(ledger, number) if ledger and hide is str else None
        found, gone_before = 0, len(gone)
        seen: set[str] = set()
        incomplete: list[Root] = []
        for directory in discover(part, pacs, asked):
            stored = hide(directory.path)
            known = ledger.directory(number, stored) if ledger else {}
            seen.add(stored)
            prefix = f"{directory.path}/" if directory.path else ""
            for name, why in directory.unreadable.items():
                plan.unreadable[join(part.address, hide((prefix + name).rstrip("/")))] = why
                known.pop(hide(name), None)
            for file in directory.files:
                relative = prefix + file.name
                before = known.pop(hide(file.name), None)
                if labels:
                    label = labels(start, relative.removeprefix(part.below).lstrip("/").removeprefix("./"))  # tar's ./
                else:
                    label = before.label if before else None
                found += 1
                plan.labelled += label is not None
                if before and _is_same(file, label, before, retry_left_out):
                    plan.unchanged += 1
                    plan.left_out_before += before.state == "left out"
                    plan.in_part_before += before.state == "indexed" and before.reason is not None
                    continue
                if limit is not None and plan.pending >= limit:
                    plan.limited = True
                    return
                plan.changed += before is not None
                plan.new += before is None
                plan.bytes_pending += file.size
                key = FileKey(number, stored, hide(file.name))
                shown = join(part.address, key.path)
                yield PendingFile(key, join(part.address, relative), shown, file.size, file.mtime_ns, label)
            if "" in directory.unreadable or directory.incomplete:
                incomplete.append(replace(part, below=stored))
            elif whole_directories and part.covers(directory.path):
                gone.extend(FileKey(number, stored, name) for name in known)
        if ledger and whole_directories:
            gone.extend(_vanished(replace(part, below=hide(part.below)), ledger, seen, incomplete))
            if not found and len(gone) > gone_before:
                empty[start] = join(part.address, hide(part.below))
        files[start] = found
    plan.gone = Gone(tuple(gone), tuple(_without_any(empty, files)))


@dataclass(frozen=True, slots=True)
class _OfRoot:
    """See :class:`workers.indexing.pacs_walk.KnownFiles`."""

    ledger: Ledger
    root: int

    def directory(self, path: str, /) -> dict[str, Known]:
        return self.ledger.directory(self.root, path)

    def directories(self, below: str, /) -> list[str]:
        return self.ledger.directories_below(self.root, below)


def _without_any(empty: Mapping[str, str], files: Mapping[str, int]) -> list[str]:
    """Of starts of walks that found no file (start → how it is shown), those below which no other walk found any."""
    full = [start for start, count in files.items() if count]
    return [shown for start, shown in empty.items() if all(below(one, start) is None for one in full)]


def _vanished(part: Root, ledger: Ledger, seen: set[str], incomplete: Sequence[Root]) -> Iterator[FileKey]:
    """Known files of directories to which the walk did not come, though nothing hid them from it."""
    for directory in ledger.directories(part.number) - seen:
        if not part.nested and INSIDE in f"{directory}/":
            continue  # in an archive file that was left alone
        # What lies behind a directory that cannot be read now may still be there.
        if part.covers(directory) and not any(one.covers(directory) for one in incomplete):
            yield from (FileKey(part.number, directory, name) for name in ledger.directory(part.number, directory))


def _is_same(file: FoundFile, label: str | None, before: Known, retry_left_out: bool) -> bool:
    lacking = before.state == "left out" or before.reason is not None
    done = before.state != "writing" and not (retry_left_out and lacking)
    return done and (before.size, before.mtime_ns, before.label) == (file.size, file.mtime_ns, label)


def windows(files: Iterator[PendingFile]) -> Generator[list[PendingFile], None, None]:
    """Cut the stream into windows; while one is worked on, the walk goes on in a thread, one window ahead at most."""
    found: queue.Queue[PendingFile | BaseException | None] = queue.Queue(WINDOW_FILES)
    stopped = threading.Event()
    thread = threading.Thread(target=_walk, args=(files, found, stopped), name="discovery", daemon=True)
    thread.start()
    try:
        ended = False
        while not ended:
            window: list[PendingFile] = []
            closes = time.monotonic() + WINDOW_SECONDS
            while len(window) < WINDOW_FILES and (time.monotonic() < closes or not window):
                try:
                    file = found.get(timeout=0.5)
                except queue.Empty:
                    continue
                if isinstance(file, BaseException):
                    raise file
                if file is None:
                    ended = True
                    break
                window.append(file)
            if window:
                yield window
    finally:
        stopped.set()
        thread.join(timeout=2)  # it may be deep in a part of the archive where nothing is new


def _walk(
    files: Iterator[PendingFile], found: queue.Queue[PendingFile | BaseException | None], stopped: threading.Event
) -> None:
    """Put the files into the queue, then ``None`` or the error that ended the walk; wait while the queue is full."""

    def put(item: PendingFile | BaseException | None) -> None:
        waiting = True
        while waiting and not stopped.is_set():
            try:
                found.put(item, timeout=0.5)
                waiting = False
            except queue.Full:
                continue

    try:
        for file in files:
            put(file)
            if stopped.is_set():
                return
    except BaseException as error:  # raised again by the consumer
        put(error)
    else:
        put(None)
