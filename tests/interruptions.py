"""Jobs that are interrupted at random end with the points of an undisturbed one.

``python -m tests.interruptions [--runs 20] [--seed 0] [--files 720] [--pacs PROTOCOL]``. In each run a job in a process
of its own loses, when a random number of images is embedded, its driver (which owns the embedded index), an embedding
actor, a storing actor (its index is a server's), a decoding worker (at once), or the room on its disk; then the same
job runs again. Disks need the right to mount one. With ``--pacs dicomweb`` or ``dimse`` the archive is a real Orthanc,
which is itself killed in mid-job, too, and started again seconds later.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Timer

import numpy as np
import psutil

from index.address import parse_address
from index.engines.edge import MIN_FREE_BYTES
from index.opening import open_index
from index.schema import Payload, Vector
from tests.support import phantoms
from tests.support.models import make_model
from tests.support.orthanc import PASSWORD, USER, Orthanc
from tests.support.stand_in.process import StandInProcess
from workers.cluster import set_ray_environment
from workers.indexing.job import index_archive
from workers.indexing.pipeline import SHARD_FILES
from workers.indexing.settings import JobObserver, JobSettings, Machine, Progress

VICTIMS: tuple[str, ...] = ("driver", "storing actor", "embedding actor", "decoding worker", "disk")

PACS_AWAY_SECONDS = 8.0

PROCESSES = {"driver": 5, "disk": 5, "storing actor": 5}
"""Processes that go down: with a driver two actors, a decoding worker and the counters, with a storing actor those that
begin anew; else one."""

BATCH = 4

MACHINE = Machine(actors=(2, 2), batch_size=BATCH, runtime="openvino")

Contents = dict[str, tuple[Payload, Vector]]


@dataclass(frozen=True)
class Archive:
    """What is indexed.

    Attributes:
        address: of a folder, or in a PACS.
        files: that lie there.
        readable: of these.
        pacs: that holds them.
    """

    address: str
    files: int
    readable: int
    pacs: Orthanc | None = None


def write_archive(folder: Path, files: int) -> Archive:
    """Phantoms of all organs, one of them in a copy, and a broken file."""
    for number in range(files):
        organ = list(phantoms.ORGANS)[number % len(phantoms.ORGANS)]
        path = folder / organ / f"{number}.dcm"
        path.parent.mkdir(parents=True, exist_ok=True)
        phantoms.dicom([phantoms.draw(organ, number, 48)], organ, number).save_as(path, enforce_file_format=True)
    shutil.copy(path, folder / "copy.dcm")
    (folder / "broken.dcm").write_bytes(path.read_bytes()[:-500])
    return Archive(str(folder), files + 2, files + 1)


@contextmanager
def in_pacs(archive: Archive, folder: Path, protocol: str) -> Iterator[Archive]:
    """The same pictures in a PACS; it keeps neither the copy nor what is broken."""
    folder.mkdir()
    pacs = Orthanc(folder)
    try:
        pacs.take(*(file for file in sorted(Path(archive.address).rglob("*/*.dcm"))))
        held = len(pacs.ask("GET", "instances").json())
        yield Archive(pacs.dimse if protocol == "dimse" else pacs.dicomweb, held, held, pacs)
    finally:
        pacs.stop()


class Job:
    """One run of ``cbmir index`` in a process of its own.

    Attributes:
        embedded: images embedded so far.
    """

    def __init__(self, archive: Archive, model: Path, index: str) -> None:
        command = [sys.executable, "-m", "tests.interruptions", "--job", archive.address, model, index]
        self.embedded, self._index, self._pacs = 0, index, archive.pacs
        self._process = subprocess.Popen(list(map(str, command)), stdout=subprocess.PIPE, text=True)
        self._comes_back: Timer | None = None

    def run(self, *hits: tuple[int, str]) -> int:
        """Follow it to its end, and hit each victim when so many images are embedded; return its exit code."""
        with self._process:
            self._follow(sorted(hits))
        if self._comes_back:
            self._comes_back.join()
        return self._process.returncode

    def _follow(self, hits: list[tuple[int, str]]) -> None:
        assert self._process.stdout is not None
        if hits and hits[0][1] == "decoding worker":  # a small archive is decoded before the first image is embedded
            self._hit(hits.pop(0)[1])
        for line in self._process.stdout:
            if line.startswith("embedded "):
                self.embedded = int(line.split()[1])
            while hits and self.embedded >= hits[0][0]:
                self._hit(hits.pop(0)[1])
        assert not hits, f"the job ended before {hits[0][0]} images were embedded"

    def _hit(self, victim: str) -> None:
        driver = psutil.Process(self._process.pid)
        if victim == "driver":
            driver.kill()
        elif victim == "PACS":
            assert self._pacs
            self._pacs.stop()
            self._comes_back = Timer(PACS_AWAY_SECONDS, self._pacs.start)
            self._comes_back.start()
        elif victim == "disk":
            home = parse_address(self._index).home
            size = shutil.disk_usage(home).free - MIN_FREE_BYTES // 2
            (home.parent / "filler").write_bytes(bytes(size))
        else:
            _find(driver, _RECOGNISED[victim]).kill()


def _find(driver: psutil.Process, wanted: Callable[[psutil.Process], bool]) -> psutil.Process:
    for _ in range(3000):
        for process in driver.children(recursive=True):
            with suppress(psutil.Error):
                if wanted(process):
                    return process
        time.sleep(0.01)
    raise AssertionError("there is no such process")


def _is_embedding(process: psutil.Process) -> bool:
    return "EmbeddingActor" in " ".join(process.cmdline())


def _is_storing(process: psutil.Process) -> bool:
    return "StoringActor" in " ".join(process.cmdline())


def _is_decoding(process: psutil.Process) -> bool:
    """Ray's title of a worker does not tell, but what it has loaded does."""
    return process.cmdline()[:1] == ["ray::IDLE"] and any(
        "PIL/_imaging" in mapped.path for mapped in process.memory_maps()
    )


_RECOGNISED = {"embedding actor": _is_embedding, "storing actor": _is_storing, "decoding worker": _is_decoding}


def contents(index: str | Path) -> Contents:
    """Every point of an index."""
    with open_index(parse_address(index), purpose="interruptions") as opened:
        return {str(point.id): (point.payload, point.vectors["fcl1"]) for point in opened.points()}


def interrupted(archive: Archive, model: Path, index: str, hits: list[tuple[int, str]], expected: Contents) -> str:
    """Run a job, hit its processes, run it again if it did not reach its end, and compare; return what happened.

    Raises:
        AssertionError: something differs, or does not add up.
    """
    first = Job(archive, model, index)
    code = first.run(*hits)
    home = parse_address(index).home
    (home.parent / "filler").unlink(missing_ok=True)
    again = Job(archive, model, index)
    assert again.run() == 0, again
    report = json.loads(max((home / "reports").iterdir()).read_text())
    unchanged, left_out = report["files_unchanged"], report["files_left_out"]
    assert report["files_found"] == report["files_indexed"] + unchanged + left_out == archive.files, report
    found = contents(index)
    assert found.keys() == expected.keys(), f"{len(found.keys() ^ expected.keys())} points are in one of them only"
    unequal = 0
    for point, (payload, vector) in expected.items():
        # An image in a batch of another size may come out another step of float16, and its probability another digit.
        there = found[point][0]
        assert replace(there, organ_probability=payload.organ_probability) == payload, (there, payload)
        assert there.organ_probability is not None
        assert payload.organ_probability is not None
        assert abs(there.organ_probability - payload.organ_probability) < 1e-5, point
        assert np.allclose(found[point][1], vector, rtol=2**-9, atol=2**-14), point
        unequal += not np.array_equal(found[point][1], vector)
    repeated = first.embedded + again.embedded - archive.readable
    most = SHARD_FILES * sum(PROCESSES.get(victim, 1) for _, victim in hits)
    assert repeated <= most, f"{repeated} images were embedded again"
    return f"exit code {code}, {repeated} embedded again, {unequal} vectors differ in their last bits"


@contextmanager
def small_disk(folder: Path) -> Iterator[bool]:
    """Mount a disk with little more room than an index must keep free; say whether that was possible."""
    folder.mkdir(exist_ok=True)
    size = f"size={MIN_FREE_BYTES + 300 * 2**20}"
    mount = ["mount", "-t", "tmpfs", "-o", size, "tmpfs", str(folder)]
    mounted = not subprocess.run(mount, check=False, capture_output=True).returncode
    try:
        yield mounted
    finally:
        if mounted:
            subprocess.run(["umount", str(folder)], check=True)


def interrupt(jobs: Sequence[Sequence[str]], seed: int, archive: Archive, model: Path, work: Path) -> Iterator[str]:
    """Interrupt one job for each entry, whose victims are hit in their order; say of each what happened."""
    undisturbed = work / "undisturbed"
    index_archive(JobSettings((archive.address,), parse_address(undisturbed), model, machine=MACHINE))
    expected, chance = contents(undisturbed), random.Random(seed)
    for run, victims in enumerate(jobs):
        after = sorted(chance.sample(range(1, archive.files * 3 // 4), len(victims)))
        with ExitStack() as stack:
            disk = work / f"disk{run}"
            index = str(disk / "index")
            if "storing actor" in victims:
                server = stack.enter_context(StandInProcess(disk))
                index = f"http://127.0.0.1:1/run{run}?grpc_port={server.port}"
            if "disk" in victims and not stack.enter_context(small_disk(disk)):
                yield "disk: nothing can be mounted here"
                continue
            outcome = interrupted(archive, model, index, list(zip(after, victims, strict=True)), expected)
        shutil.rmtree(disk)
        yield f"{', '.join(victims)} after {', '.join(map(str, after))} images: {outcome}"


def be_a_job(archive: str, model: str, index: str) -> None:
    """Index in small batches and tell of each at once, so that there is time to hit a small job on a fast machine."""
    set_ray_environment()
    from workers.indexing import streaming

    streaming.LOOK_SECONDS = 0.0
    index_archive(JobSettings((archive,), parse_address(index), Path(model), machine=MACHINE), _Counts())


class _Counts(JobObserver):
    def progress(self, progress: Progress) -> None:
        if progress.stages:
            print("embedded", progress.stages.embedded_frames, flush=True)


def main() -> None:
    """Interrupt jobs, or be one."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--runs", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--files", type=int, default=720)
    parser.add_argument("--pacs", choices=("dicomweb", "dimse"))
    parser.add_argument("--job", nargs=3)
    arguments = parser.parse_args()
    if arguments.job:
        be_a_job(*arguments.job)
        return
    with tempfile.TemporaryDirectory(prefix="cbmir-") as work:
        os.environ["CBMIR_STATE"] = str(Path(work) / "state")
        model = make_model(Path(work) / "model.safetensors", seed=0)
        archive = write_archive(Path(work) / "archive", arguments.files)
        victims = VICTIMS
        with ExitStack() as stack:
            if arguments.pacs:
                os.environ |= {"CBMIR_PACS_USER": USER, "CBMIR_PACS_PASSWORD": PASSWORD}
                archive = stack.enter_context(in_pacs(archive, Path(work) / "pacs", arguments.pacs))
                victims = (*VICTIMS, "PACS")
            jobs = [(victims[run % len(victims)],) for run in range(arguments.runs)]
            for line in interrupt(jobs, arguments.seed, archive, model, Path(work)):
                print(line, flush=True)


if __name__ == "__main__":
    main()
