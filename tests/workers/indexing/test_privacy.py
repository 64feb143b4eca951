"""What names a patient reaches no file that a job writes, nor Ray's logs."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import ray
from pydicom.dataset import Dataset

from index.address import parse_address
from index.home.key import KEY_NAME
from index.opening import open_index
from index.query import query_from_image
from index.search import Options, Same, search
from model.errors import VectorIndexError
from model.network.embedder import Embedder
from tests.support import phantoms
from tests.support.jobs import small_job
from tests.support.stand_in.service import StandIn
from workers.indexing.job import index_archive
from workers.indexing.settings import Privacy

SECRETS = {
    "PatientName": "PLANTEDNAME^ANNA",
    "PatientID": "PLANTEDID7",
    "PatientBirthDate": "19611224",
    "AccessionNumber": "PLANTEDACC9",
    "InstitutionName": "PLANTEDCLINIC",
    "ReferringPhysicianName": "PLANTEDDOCTOR^B",
}


def plant(folder: Path, name: str, patient: str, seed: int, *, burned_in: str = "NO") -> Path:
    ds = phantoms.dicom([phantoms.draw("knee", seed)], "knee", f"{patient}-{seed}")
    for keyword, value in SECRETS.items():
        setattr(ds, keyword, value)
    ds.PatientID = patient
    ds.BurnedInAnnotation = burned_in
    block = ds.private_block(0x0011, "PLANTEDVENDOR", create=True)
    block.add_new(0x01, "LO", "PLANTEDPRIVATE")
    item = Dataset()
    item.PatientID = "PLANTEDNESTED"
    ds.ReferencedPatientSequence = [item]
    path = folder / f"PLANTEDFOLDER^{patient}" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    ds.save_as(path, enforce_file_format=True)
    return path


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    folder = tmp_path / "archive"
    plant(folder, "PLANTEDFILE1.dcm", "PLANTEDID7", 1)
    plant(folder, "PLANTEDFILE2.dcm", "PLANTEDID7", 2)
    plant(folder, "PLANTEDFILE3.dcm", "PLANTEDID8", 3)
    plant(folder, "PLANTEDFILE4.dcm", "PLANTEDID8", 4, burned_in="YES")
    truncated = plant(folder, "PLANTEDFILE5.dcm", "PLANTEDID9", 5)
    truncated.write_bytes(truncated.read_bytes()[:-500])
    (folder / "PLANTEDBROKEN").symlink_to(folder / "PLANTEDABSENT")
    return folder


def written(*folders: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for folder in folders for path in folder.rglob("*") if path.is_file()}


def found(secret: str, contents: dict[str, bytes]) -> list[str]:
    wanted = re.compile(b"|".join(re.escape(form) for form in (secret.encode(), secret.encode("utf-16-le"))))
    return [path for path, content in contents.items() if wanted.search(content)]


@pytest.mark.usefixtures("ray_here")
def test_nothing_that_names_a_patient_is_written(archive: Path, tmp_path: Path, model_path: Path) -> None:
    index = tmp_path / "index"
    settings = small_job(
        (archive,), model_path, index, privacy=Privacy("hash", keep_patient_group=True, skip_burned_in=True),
        report=tmp_path / "out" / "report.json",
    )  # fmt: skip
    report = index_archive(settings)
    assert report.left_out_by_reason == {
        "burned-in annotation": 1, "corrupt or truncated": 1, "unreadable file": 1,
    }  # fmt: skip
    logs = Path(ray._private.worker._global_node.get_logs_dir_path())
    contents = written(index, tmp_path / "out", logs)
    assert len(contents) > 20
    for secret in ("PLANTED", *SECRETS.values()):
        assert not found(secret, contents), secret
    assert (index / KEY_NAME).stat().st_mode & 0o077 == 0

    again = index_archive(settings)
    assert (again.files_unchanged, again.files_indexed, again.files_gone) == (5, 0, 0)

    (index / KEY_NAME).unlink()
    with pytest.raises(VectorIndexError, match=r"has not the privacy\.key of the index"):
        index_archive(settings)


@pytest.mark.usefixtures("without_ray")
def test_nothing_that_names_a_patient_reaches_a_server(
    archive: Path, tmp_path: Path, model_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CBMIR_STATE", str(tmp_path / "state"))
    server = StandIn(folder=tmp_path / "server")
    address = f"http://127.0.0.1:1/scans?grpc_port={server.port}"
    job = small_job((archive,), model_path, address, privacy=Privacy("hash", keep_patient_group=True))
    assert index_archive(job).files_indexed == 4
    server.discard()
    contents = written(tmp_path / "server")
    assert found("truncated", contents)  # the reason of the fifth file, so this search sees the ledger
    key = (job.index.home / KEY_NAME).read_text()
    for secret in ("PLANTED", *SECRETS.values(), key, bytes.fromhex(key).decode("latin-1")):
        assert not found(secret, contents), secret

    server = StandIn(folder=tmp_path / "server", port=server.port)
    assert index_archive(job).files_unchanged == 5
    monkeypatch.setenv("CBMIR_STATE", str(tmp_path / "another machine"))
    other = small_job((archive,), model_path, address, privacy=Privacy("hash", keep_patient_group=True))
    with pytest.raises(VectorIndexError, match=r"has not the privacy\.key of the index"):
        index_archive(other)
    other.index.home.mkdir(parents=True, exist_ok=True)
    (other.index.home / KEY_NAME).write_text(key)
    assert index_archive(other).files_unchanged == 5
    server.discard()


@pytest.mark.usefixtures("without_ray")
def test_the_same_patient_can_be_left_out(archive: Path, tmp_path: Path, model_path: Path) -> None:
    index_archive(small_job((archive,), model_path, tmp_path / "index", privacy=Privacy(keep_patient_group=True)))
    query_file = archive / "PLANTEDFOLDER^PLANTEDID7" / "PLANTEDFILE1.dcm"
    key = bytes.fromhex((tmp_path / "index" / KEY_NAME).read_text())
    query = query_from_image(query_file, Embedder.load(model_path), patient_key=key)
    with open_index(parse_address(tmp_path / "index"), purpose="test") as index:
        names = {}
        choices: tuple[Same, ...] = ("self", "patient")
        for same in choices:
            answer = search(index, query, Options(10, ("fcl1",), (), exclude_same=same))
            names[same] = {hit.payload.locations[0].path[-5] for hit in answer.hits}
    assert names == {"self": {"2", "3", "4"}, "patient": {"3", "4"}}


@pytest.mark.usefixtures("without_ray")
def test_by_default_headers_are_kept_out_and_paths_are_relative(
    archive: Path, tmp_path: Path, model_path: Path
) -> None:
    index_archive(small_job((archive,), model_path, tmp_path / "index"))
    contents = written(tmp_path / "index")
    for name, secret in SECRETS.items():
        if name != "PatientID":  # it stands in the folder's name, too
            assert not found(secret, contents), secret
    for secret in ("PLANTEDVENDOR", "PLANTEDPRIVATE", "PLANTEDNESTED"):
        assert not found(secret, contents), secret
    assert found("PLANTEDFOLDER", contents)  # so this search would see the others, too
    assert not (tmp_path / "index" / KEY_NAME).exists()
    with open_index(parse_address(tmp_path / "index"), purpose="test") as index:
        paths = {payload.locations[0].path for _, payload in index.scroll()}
    assert "PLANTEDFOLDER^PLANTEDID7/PLANTEDFILE1.dcm" in paths
