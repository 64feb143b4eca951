from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from threading import Barrier
from typing import Any

import onnxruntime
import pytest

from index.address import parse_address
from index.engines.engine import Index
from index.opening import create_index, open_index
from index.roots import Archive, Root
from model.errors import CbmirError, SettingError
from model.network.bundled import find_model
from model.network.heads import default_layers
from model.network.metadata import read_metadata
from tests.index.conftest import describe
from tests.support.jobs import small_job
from tests.support.models import encoder_for_processors
from tests.support.stand_in.service import StandIn
from workers.indexing.job import index_archive
from workers.indexing.planning import Plan
from workers.indexing.preparing import check_job, pending_files, plan_job, register_roots
from workers.indexing.settings import JobSettings, Machine


def test_jobs_that_add_archives_to_a_server_at_the_same_moment_get_numbers_of_their_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CBMIR_STATE", str(tmp_path))
    server = StandIn()
    address = f"http://127.0.0.1:6333/scans?grpc_port={server.port}"
    names = [f"/archive/{number}" for number in range(4)]
    indexes = [create_index(parse_address(address), describe(roots=()), purpose="test") for _ in names]
    barrier = Barrier(len(names))

    def register(index: Index, name: str) -> int:
        barrier.wait()
        [root] = register_roots(index, [Archive(name)], "/model")
        return root.number

    with ThreadPoolExecutor() as pool:
        numbers = list(pool.map(register, indexes, names))
    with open_index(parse_address(address), purpose="test") as index:
        assert [index.description.roots[number] for number in numbers] == names
    for index in indexes:
        index.close()
    server.stop()


def test_only_a_list_may_name_what_is_not_there(tmp_path: Path) -> None:
    gone, plan = tmp_path / "gone", Plan()
    settings = small_job((gone,), tmp_path / "model", tmp_path / "index")
    roots = [Root(0, str(gone)), Root(1, f"zip://::{gone}.zip"), Root(2, str(gone), members=("1", "2"))]
    assert list(pending_files(settings, roots, None, plan)) == []
    assert plan.unreadable == {str(gone / name): "No such file or directory" for name in ("1", "2")}


def test_a_job_needs_no_model_where_one_is_known(archive: Path, model_path: Path, tmp_path: Path) -> None:
    bundled = check_job(JobSettings((archive,), parse_address(tmp_path / "new")), patient=False)
    assert (bundled.settings.model, bundled.settings.layers) == (find_model(), default_layers(find_model()))
    made = describe(model_fingerprint=read_metadata(model_path).fingerprint, model_path=str(model_path))
    create_index(parse_address(tmp_path / "index"), made, purpose="test").close()
    layers = JobSettings(
        (archive,), parse_address(tmp_path / "index"), layers=made.layers, quantization=made.quantization
    )
    assert resolved(layers) == model_path


def test_what_onnx_runtime_does_not_compute_there_leaves_gpus_alone(
    archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    providers = ["CPUExecutionProvider"]
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: providers)
    settings = JobSettings((archive,), parse_address(tmp_path / "new"), encoder_for_processors(tmp_path / "encoder"))
    assert check_job(settings, patient=False).settings.machine.gpus == 0
    for other in ("atlas", "pair", "lite0"):
        assert check_job(replace(settings, model=find_model(other)), patient=False).settings.machine.gpus is None
    pair = replace(settings, model=find_model("pair"))
    with pytest.raises(SettingError, match="pip install onnxruntime-gpu"):
        check_job(replace(settings, machine=Machine(gpus=1)), patient=False)
    assert check_job(replace(pair, machine=Machine(gpus=1)), patient=False).settings.machine.gpus == 1
    elsewhere = replace(settings, machine=Machine(gpus=0.5, ray_address="10.0.0.1:6379"))
    assert check_job(elsewhere, patient=False).settings.machine.gpus == 0.5
    providers.insert(0, "CUDAExecutionProvider")
    assert check_job(settings, patient=False).settings.machine.gpus is None


def resolved(settings: JobSettings) -> Path | None:
    """The model that a job would take, whatever stands against the rest of it."""
    from workers.indexing.preparing import _completed

    return _completed(settings, patient=False).model


def test_a_dry_run_refuses_what_the_job_refuses(archive: Path, model_path: Path, tmp_path: Path) -> None:
    foreign = tmp_path / "thesis"
    foreign.mkdir()
    (foreign / "thesis.doc").write_text("years of work")
    (tmp_path / "file").write_text("")
    (tmp_path / "labels.csv").write_text("path,label\nabsent.dcm,knee\n")
    cases: dict[str, dict[str, Any]] = {
        "not empty and not an index": {"index": parse_address(foreign)},
        "is a file, not the folder": {"index": parse_address(tmp_path / "file")},
        "makes no sense": {"machine": Machine(actors=(3, 2))},
        "computes on processors only": {"machine": Machine(gpus=1.0, runtime="openvino")},
        "exclude each other": {"prune": True, "limit": 2},
        "none of the 1 paths": {"labels": str(tmp_path / "labels.csv")},
        "does not exist": {"archives": (tmp_path / "absent",)},
    }
    for message, changes in cases.items():
        settings = replace(small_job((archive,), model_path, tmp_path / "index"), **changes)
        for job in (plan_job, index_archive):
            with pytest.raises(CbmirError, match=message):
                job(settings)
    assert not (tmp_path / "index").exists()
    assert [path.name for path in foreign.iterdir()] == ["thesis.doc"]
