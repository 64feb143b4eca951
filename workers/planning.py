"""What a job has to do: the files that are new or changed, as a stream, in windows."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from workers.discovery import discover
from workers.ledger import FileKey, Ledger

WINDOW_FILES = 200_000
"""Most files in one window: about 100 MB of paths and bookkeeping."""

WINDOW_SECONDS = 10.0
"""After so long a window is closed with what was found, so that a slow file system does not delay the first image."""

Labels = Callable[[Path, str], str | None]
"""Root and path below it → the known true class, or ``None``."""


@dataclass(frozen=True, slots=True)
class PendingFile:
    """A file that a job has to index; ``label`` is its true class, if known."""

    key: FileKey
    absolute: str
    size: int
    mtime_ns: int
    label: str | None


@dataclass(slots=True)
class Plan:
    """Counts of a walk, growing while it goes on; complete once ``finished``.

    Attributes:
        new, changed, unchanged: files by what the ledger knows of them.
        left_out_before: unchanged files that an earlier job left out.
        bytes_pending: size of the new and changed files.
        unreadable: what could not be looked at: path → why.
        gone: files that the ledger knows and the roots no longer hold.
    """

    new: int = 0
    changed: int = 0
    unchanged: int = 0
    left_out_before: int = 0
    bytes_pending: int = 0
    unreadable: dict[str, str] = field(default_factory=dict)
    gone: list[FileKey] = field(default_factory=list)
    finished: bool = False

    @property
    def pending(self) -> int:
        """Files to index."""
        return self.new + self.changed


def plan_files(
    roots: Sequence[tuple[int, Path]],
    ledger: Ledger | None,
    plan: Plan,
    *,
    labels: Labels | None = None,
    limit: int | None = None,
    retry_left_out: bool = False,
    skip: frozenset[Path] = frozenset(),
) -> Iterator[PendingFile]:
    """Walk the roots and yield what must be indexed, counting everything in ``plan``.

    A file is unchanged if its size and time are those of the ledger and its label is not another one. Without a ledger
    everything is new.
    """
    for number, root in roots:
        visited: set[str] = set()
        for directory in discover(root, skip=skip):
            known = ledger.directory(number, directory.path) if ledger else {}
            visited.add(directory.path)
            prefix = f"{directory.path}/" if directory.path else ""
            for name, why in directory.unreadable.items():
                plan.unreadable[str(root / (prefix + name))] = why
                known.pop(name, None)
            for file in directory.files:
                relative = prefix + file.name
                before = known.pop(file.name, None)
                label = labels(root, relative) if labels else None
                if before is not None:
                    size, mtime_ns, state, old_label = before
                    label = label if labels else old_label
                    same = (size, mtime_ns, old_label) == (file.size, file.mtime_ns, label)
                    if same and (state == "indexed" or (state == "left out" and not retry_left_out)):
                        plan.unchanged += 1
                        plan.left_out_before += state == "left out"
                        continue
                if limit is not None and plan.pending >= limit:
                    return
                plan.changed += before is not None
                plan.new += before is None
                plan.bytes_pending += file.size
                absolute = f"{root}/{relative}" if relative else str(root)
                yield PendingFile(FileKey(number, directory.path, file.name), absolute, file.size, file.mtime_ns, label)
            plan.gone.extend(FileKey(number, directory.path, name) for name in known)
        if ledger:
            for vanished in ledger.directories(number) - visited:
                plan.gone.extend(FileKey(number, vanished, name) for name in ledger.directory(number, vanished))
    plan.finished = True


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
        thread.join()


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
