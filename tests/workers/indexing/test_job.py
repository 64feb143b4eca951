from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import time
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom.encaps import encapsulate, generate_frames
from pydicom.uid import JPEGLSLossless
from ray._private.state import actors

from index.address import parse_address
from index.engines.engine import Where
from index.ledger import Ledger
from index.opening import open_index
from index.schema import Location
from model.errors import JobError, JobInterrupted, ModelMismatchError, VectorIndexError
from model.images.reading import read_frames
from model.network.embedder import Embedder
from tests.support import phantoms
from tests.support.jobs import small_job
from tests.support.models import prepared
from workers.indexing.job import index_archive
from workers.indexing.preparing import plan_job
from workers.indexing.report import JobReport
from workers.indexing.settings import JobObserver, JobSettings, Machine, Progress

WITH_RAY = pytest.mark.usefixtures("ray_here")
WITHOUT_RAY = pytest.mark.usefixtures("without_ray")


def settings(archive: Path, index: Path, model: Path, **changes: Any) -> JobSettings:
    return small_job((archive,), model, index, **changes)


def contents(index: Path) -> dict[str, Any]:
    """Everything stored: payloads and vectors by point."""
    with open_index(parse_address(index), purpose="test") as opened:
        return {str(point): (payload, opened.vector(point, "fcl1").tobytes()) for point, payload in opened.scroll()}


@WITH_RAY
def test_the_whole_way_of_an_image(archive: Path, model_path: Path, tmp_path: Path) -> None:
    index = tmp_path / "index"
    report = index_archive(
        settings(archive, index, model_path, labels="folder", report=tmp_path / "report.json", machine=Machine())
    )
    assert (report.outcome, report.files_found, report.files_indexed, report.points) == ("complete", 26, 25, 28)
    assert [(Path(file.path).name, file.reason) for file in report.left_out] == [
        ("knee-broken.dcm", "corrupt or truncated")
    ]
    written = json.loads((tmp_path / "report.json").read_text())
    assert written == json.loads((index / "reports" / "job-000001.json").read_text())
    assert written["left_out_by_reason"] == {"corrupt or truncated": 1}
    assert written["images_per_second"] > 0

    embedder = Embedder.load(model_path)
    with open_index(parse_address(index), purpose="test") as opened:
        assert opened.facet("label") == {"brain": 8, **dict.fromkeys(("abdomen", "breast", "chest", "eye", "knee"), 4)}
        assert opened.facet("modality") == {"MR": 8, "CT": 4, "MG": 4, "CR": 4, "OP": 4, "DX": 4}
        for name, frame in (("chest/chest-002.dcm", 1), ("brain/brain-cine.dcm", 3)):
            uid = phantoms.uid("brain", "cine") if "cine" in name else phantoms.uid("chest", 2)
            where = Where(must={"sop_instance_uid": [uid]})
            [(point, payload)] = [pair for pair in opened.scroll(where) if pair[1].frame == frame]
            assert payload.locations == (Location(0, name),)
            pixels = list(read_frames(archive / name))[frame - 1].pixels
            expected = embedder.embed(prepared(pixels)[None])
            assert payload.organ == embedder.metadata.classes[int(expected.probabilities[0].argmax())]
            assert np.allclose(opened.vector(point, "fcl1"), expected.features["fcl1"][0], rtol=2e-3, atol=2e-3)
    assert_nothing_is_left_in_ray()


def assert_nothing_is_left_in_ray() -> None:
    """Of the job, in a Ray that goes on; Ray Data keeps some actors of its own."""
    deadline = time.monotonic() + 30
    ours = ("Counters", "EmbeddingActor")
    while alive := [
        one for one in actors().values() if one["State"] == "ALIVE" and one["ActorClassName"].endswith(ours)
    ]:
        assert time.monotonic() < deadline, alive
        time.sleep(0.2)


@WITHOUT_RAY
def test_broken_frames_and_archives_in_folders(model_path: Path, tmp_path: Path) -> None:
    scans, index = tmp_path / "scans", tmp_path / "index"
    scans.mkdir()
    pictures = [phantoms.draw("brain", seed, 64) for seed in range(5)]
    ds = phantoms.dicom(pictures, "brain", "cine", syntax=JPEGLSLossless)
    streams = [bytes(stream) for stream in generate_frames(ds.PixelData, number_of_frames=5)]
    ds.PixelData = encapsulate([one[:60] if number in {1, 2} else one for number, one in enumerate(streams)])
    ds.save_as(scans / "cine", enforce_file_format=True)
    phantoms.dicom([phantoms.draw("eye", 1, 64)], "eye", 1).save_as(tmp_path / "1.dcm", enforce_file_format=True)
    with zipfile.ZipFile(scans / "eye.zip", "w") as packed:
        packed.write(tmp_path / "1.dcm", "deep/1.dcm")
        packed.writestr("notes.txt", "no image")
    job = settings(scans, index, model_path, labels="folder")
    report = index_archive(job)
    assert (report.outcome, report.files_found, report.files_indexed, report.points) == ("complete", 3, 2, 4)
    assert (report.files_in_part, report.files_left_out, report.anything_left_out) == (1, 1, True)
    [part] = report.frames_left_out
    assert (part.path, part.reason, part.frames) == (str(scans / "cine"), "corrupt or truncated", "2-3 of 5")
    assert [file.path for file in report.left_out] == [f"zip://notes.txt::{scans}/eye.zip"]
    with open_index(parse_address(index), purpose="test") as opened:
        found = sorted((payload.locations[0].path, payload.frame) for _, payload in opened.scroll())
        assert found == [("cine", 1), ("cine", 4), ("cine", 5), ("eye.zip//deep/1.dcm", 1)]
        assert opened.facet("label") == {"eye": 1}
    again = index_archive(job)
    assert (again.files_unchanged, again.left_out_before, again.in_part_before, again.points) == (3, 1, 1, 0)
    assert again.anything_left_out
    retried = index_archive(replace(job, retry_left_out=True))
    assert (retried.files_changed, retried.files_in_part, retried.points) == (2, 1, 3)


@WITHOUT_RAY
def test_a_second_run_does_only_what_is_new_or_changed(archive: Path, model_path: Path, tmp_path: Path) -> None:
    copy, index = tmp_path / "archive", tmp_path / "index"
    shutil.copytree(archive, copy)
    first = index_archive(settings(copy, index, model_path, limit=10))
    assert (first.files_indexed + first.files_left_out, first.files_new) == (10, 10)
    index_archive(settings(copy, index, model_path))
    before = contents(index)
    assert len(before) == 28

    again = index_archive(settings(copy, index, model_path))
    assert (again.files_new, again.files_changed, again.files_unchanged, again.points) == (0, 0, 26, 0)
    assert (again.left_out_before, again.anything_left_out) == (1, True)
    assert contents(index) == before

    ds = phantoms.dicom([phantoms.draw("eye", 77, 64)], "eye", 0)
    ds.save_as(copy / "eye" / "eye-000.dcm", enforce_file_format=True)  # other pixels under the same UID
    shutil.copy(copy / "eye" / "eye-001.dcm", copy / "eye" / "a-copy.dcm")
    (copy / "knee" / "knee-000.dcm").unlink()
    shutil.copy(copy / "knee" / "knee-001.dcm", copy / "knee" / "knee-broken.dcm")
    plan = plan_job(settings(copy, index, model_path))
    assert (plan.new, plan.changed, plan.unchanged, plan.gone and len(plan.gone.files)) == (1, 2, 23, 1)
    changed = index_archive(settings(copy, index, model_path))
    assert (changed.files_new, changed.files_changed, changed.files_gone, changed.copies) == (1, 2, 1, 2)
    after = contents(index)
    assert len(after) == 28  # one of other pixels instead of the old, two copies of points that are there
    assert len(set(after) - set(before)) == 1
    assert sorted(len(payload.locations) for payload, _ in after.values())[-2:] == [2, 2]

    pruned = index_archive(settings(copy, index, model_path, prune=True))
    assert pruned.files_pruned == 1
    assert len(contents(index)) == 27
    assert index_archive(settings(copy, index, model_path)).files_gone == 0


@WITHOUT_RAY
def test_layers_are_stored_and_another_model_is_refused(
    archive: Path, model_path: Path, other_model_path: Path, tmp_path: Path
) -> None:
    index = tmp_path / "index"
    index_archive(settings(archive / "eye", index, model_path, layers=("fcl1", "fcl3")))
    with open_index(parse_address(index), purpose="test") as opened:
        assert opened.statistics().vectors == 8
    with pytest.raises(ModelMismatchError, match="made by another model"):
        index_archive(settings(archive / "eye", index, other_model_path, layers=("fcl1", "fcl3")))
    with pytest.raises(ModelMismatchError, match="has layers"):
        index_archive(settings(archive / "eye", index, model_path, layers=("fcl1",)))
    index_archive(settings(archive / "eye", index, model_path))  # those of the index, where none are named


@WITHOUT_RAY
def test_archives_that_do_not_exist_make_no_index(model_path: Path, tmp_path: Path) -> None:
    with pytest.raises(JobError, match="does not exist"):
        index_archive(settings(tmp_path / "absent", tmp_path / "index", model_path))
    assert not (tmp_path / "index").exists()


@WITHOUT_RAY
def test_prune_and_a_lost_shard_are_refused_where_they_would_lose_everything(
    archive: Path, model_path: Path, tmp_path: Path
) -> None:
    copy, index = tmp_path / "archive", tmp_path / "index"
    shutil.copytree(archive / "eye", copy / "eye")
    index_archive(settings(copy, index, model_path))
    shutil.rmtree(copy / "eye")
    with pytest.raises(JobError, match="holds no file now, though 4 are indexed: is it mounted"):
        index_archive(settings(copy, index, model_path, prune=True))
    assert len(contents(index)) == 4
    shutil.rmtree(index / "shard")
    with pytest.raises(VectorIndexError, match="has lost its points, though 4 files are indexed"):
        index_archive(settings(copy, index, model_path))


class SchemaError(Exception):
    """As pydantic's, in whose text Ctrl-C is left."""


@WITHOUT_RAY
@pytest.mark.parametrize("by", ["Python", "pydantic", "us"])
def test_ctrl_c_that_something_has_wrapped_interrupts_a_job(
    archive: Path, model_path: Path, tmp_path: Path, by: str
) -> None:
    class Wrapped(JobObserver):
        def progress(self, progress: Progress) -> None:
            if progress.stage != "starting":
                return
            if by == "pydantic":
                raise SchemaError('Error building "dataclass" validator:\n  KeyboardInterrupt: ')
            kind = RuntimeError if by == "Python" else JobError
            raise kind("Error calling __set_name__") from KeyboardInterrupt()

    with pytest.raises(JobInterrupted, match="the same command goes on"):
        index_archive(settings(archive, tmp_path / "index", model_path), Wrapped())


@WITHOUT_RAY
def test_an_observer_that_fails_costs_neither_the_ledger_nor_the_report(
    archive: Path, model_path: Path, tmp_path: Path
) -> None:
    class Gone(JobObserver):
        def ended(self, report: JobReport) -> None:
            raise BrokenPipeError

    empty, index = tmp_path / "empty", tmp_path / "index"
    empty.mkdir()
    with pytest.raises(BrokenPipeError):
        index_archive(settings(empty, index, model_path), Gone())
    ledger = Ledger(index, read_only=True)
    last = ledger.last_job()
    ledger.close()
    assert last
    assert last.outcome == "complete"
    assert len(list((index / "reports").iterdir())) == 1


@WITHOUT_RAY
def test_the_index_may_lie_inside_its_archive(archive: Path, model_path: Path, tmp_path: Path) -> None:
    shutil.copytree(archive / "eye", tmp_path / "archive")
    inside = tmp_path / "archive" / "index"
    for _ in range(2):
        report = index_archive(settings(tmp_path / "archive", inside, model_path))
        assert report.files_found == 4


@WITHOUT_RAY
def test_no_patient_reaches_anything_that_a_job_writes(archive: Path, model_path: Path, tmp_path: Path) -> None:
    index_archive(settings(archive, tmp_path / "index", model_path, report=tmp_path / "index" / "report.json"))
    planted = re.compile(rb"PHANTOM\^PLANTED|PLANTED-[a-z]+|19010203")
    assert planted.search((archive / "eye" / "eye-000.dcm").read_bytes())
    files = [path for path in (tmp_path / "index").rglob("*") if path.is_file()]
    assert len(files) > 10
    assert not [path for path in files if planted.search(path.read_bytes())]


@WITHOUT_RAY
def test_a_run_with_nothing_to_do_starts_nothing(archive: Path, model_path: Path, tmp_path: Path) -> None:
    index_archive(settings(archive / "eye", tmp_path / "index", model_path))
    command = ["index", str(archive / "eye"), "--model", str(model_path), "--index", str(tmp_path / "index")]
    script = (
        f"import sys\nfrom cli.app import run\nassert run({command!r}) == 0\n"
        "print(sorted({'ray', 'torch', 'pyarrow', 'pandas', 'pydicom', 'sklearn'} & set(sys.modules)))\n"
    )
    result = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True)
    assert result.stdout.splitlines()[-1] == "[]"
