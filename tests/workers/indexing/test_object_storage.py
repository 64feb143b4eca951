"""Archives in a bucket, over HTTP from a real S3 server."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

from index.address import parse_address
from index.opening import open_index
from model.errors import JobError
from tests.support.jobs import small_job
from tests.support.object_storage import Bucket, serve
from workers.indexing import job
from workers.indexing.job import index_archive
from workers.indexing.report import JobReport


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[Bucket]:
    """An empty bucket, with credentials for it."""
    if not find_spec("s3fs"):
        pytest.skip("needs the extra s3")
    import s3fs

    with serve() as served:
        for name, value in {
            "AWS_ENDPOINT_URL": served.endpoint,
            "AWS_ACCESS_KEY_ID": "testing",
            "AWS_SECRET_ACCESS_KEY": "testing",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_MAX_ATTEMPTS": "2",
        }.items():
            monkeypatch.setenv(name, value)
        s3fs.S3FileSystem.clear_instance_cache()
        monkeypatch.setattr(s3fs.S3FileSystem, "retries", 1)
        yield served
        s3fs.S3FileSystem.clear_instance_cache()


@pytest.fixture
def run(model_path: Path, tmp_path: Path, without_ray: None) -> Callable[..., JobReport]:
    """Index addresses."""
    return lambda *addresses, **more: index_archive(small_job(addresses, model_path, tmp_path / "index", **more))


def paths(folder: Path) -> set[str]:
    with open_index(parse_address(folder / "index"), purpose="test") as index:
        return {location.path for _, payload in index.scroll() for location in payload.locations}


def test_names_with_blanks_and_umlauts_and_tars_are_indexed_once(
    bucket: Bucket, run: Callable[..., JobReport], archive: Path, tmp_path: Path
) -> None:
    bucket.put_folder(archive / "eye", "Nord West/Größe & Maß+1")
    tar = io.BytesIO()
    with tarfile.open(fileobj=tar, mode="w:gz") as file:
        for path in sorted((archive / "breast").iterdir()):
            file.add(path, f"über/{path.name}")
    bucket.put("Nord West/export 1.tar.gz", tar.getvalue())
    report = run(f"s3://{bucket.name}/Nord West", labels="folder")
    assert (report.outcome, report.files_indexed, report.left_out) == ("complete", 8, [])
    eyes = {f"Größe & Maß+1/{path.name}" for path in (archive / "eye").iterdir()}
    assert paths(tmp_path) == eyes | {f"export 1.tar.gz//über/{path.name}" for path in (archive / "breast").iterdir()}
    given = sum(bucket.given.values())
    again = run(f"s3://{bucket.name}/Nord West", labels="folder")
    assert (again.files_indexed, again.files_unchanged) == (0, 8)
    assert sum(bucket.given.values()) - given <= 3  # of the tar file its table of contents

    bucket.put("Nord West/Größe & Maß+1/eye-001.dcm", (archive / "eye" / "eye-000.dcm").read_bytes())
    bucket.delete("Nord West/Größe & Maß+1/eye-002.dcm")
    changed = run(f"s3://{bucket.name}/Nord West", labels="folder", prune=True)
    assert (changed.files_indexed, changed.files_changed, changed.files_pruned) == (1, 1, 1)


def test_a_query_may_lie_in_the_bucket(
    bucket: Bucket,
    without_ray: None,
    cbmir: Callable[..., int],
    archive: Path,
    model_path: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    bucket.put_folder(archive / "eye", "a b")
    archives = ("index", f"s3://{bucket.name}/a b", "--index", tmp_path / "index", "--model", model_path)
    assert cbmir(*archives) == 0
    capsys.readouterr()
    query = f"s3://{bucket.name}/a b/eye-001.dcm"
    ask = ("search", query, "--index", tmp_path / "index", "--exclude-same", "none", "--no-class-prediction")
    assert cbmir(*ask, "--format", "json", "--sheet", tmp_path / "sheet.png") == 0
    [answer] = json.loads(capsys.readouterr().out)
    assert answer["hits"][0]["path"] == query
    assert (tmp_path / "sheet.png").stat().st_size > 1000
    assert cbmir("inspect", query) == 0


def test_what_the_bucket_does_not_give_is_named_and_tried_again_by_the_same_command(
    bucket: Bucket, run: Callable[..., JobReport], archive: Path
) -> None:
    bucket.put_folder(archive / "eye", "eyes")
    bucket.unavailable["eyes/eye-001.dcm"] = 100
    bucket.unavailable["eyes/eye-002.dcm"] = 1  # busy for a moment
    report = run(f"s3://{bucket.name}/eyes")
    assert (report.files_indexed, report.files_missing) == (3, 1)
    [file] = report.left_out
    assert (file.path, file.reason) == (f"s3://{bucket.name}/eyes/eye-001.dcm", "not reachable")
    bucket.unavailable.clear()
    again = run(f"s3://{bucket.name}/eyes")
    assert (again.files_indexed, again.files_unchanged, again.files_missing, again.left_out) == (1, 3, 0, [])


def test_a_job_whose_credentials_expire_ends_and_goes_on_with_new_ones(
    bucket: Bucket, run: Callable[..., JobReport], archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import s3fs

    monkeypatch.setattr(job, "OUT_OF_REACH", 5)
    organs = ("eye", "breast", "brain", "chest")
    for organ in organs:
        bucket.put_folder(archive / organ, organ)
    bucket.lifetime = 6
    with pytest.raises(JobError, match=r"5 files one after another could not be reached .*renew the credentials"):
        run(f"s3://{bucket.name}")
    stored = paths(tmp_path)
    assert 1 <= len(stored) <= 6
    s3fs.S3FileSystem.clear_instance_cache()
    bucket.lifetime = None
    report = run(f"s3://{bucket.name}")
    assert (report.outcome, report.left_out) == ("complete", [])
    assert report.files_unchanged == len(stored)
    assert report.files_indexed + len(stored) == sum(len(list((archive / organ).iterdir())) for organ in organs)


def test_objects_that_are_refused_do_not_end_a_job_whose_storage_answers(
    bucket: Bucket, run: Callable[..., JobReport], archive: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(job, "OUT_OF_REACH", 2)
    bucket.put_folder(archive / "brain", "a")
    bucket.put_folder(archive / "eye", "b")
    for path in (archive / "brain").iterdir():
        bucket.unavailable[f"a/{path.name}"] = 100
    report = run(f"s3://{bucket.name}")
    assert (report.outcome, report.files_indexed, report.files_missing) == ("complete", 4, 5)
    assert report.left_out_by_reason == {"not reachable": 5}


def test_a_slow_bucket_is_waited_for(bucket: Bucket, run: Callable[..., JobReport], archive: Path) -> None:
    bucket.put_folder(archive / "eye", "eyes")
    bucket.seconds = 0.3
    report = run(f"s3://{bucket.name}/eyes")
    assert (report.files_indexed, report.left_out) == (4, [])


def test_what_reads_a_bucket_and_is_not_installed_is_named(
    cbmir: Callable[..., int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import fsspec

    def missing(address: str) -> None:
        raise ImportError(f"Install something to access {address}")

    monkeypatch.setattr(fsspec.core, "url_to_fs", missing)
    for protocol, extra in (("s3", "s3"), ("gs", "gcs"), ("abfs", "azure")):
        assert cbmir("index", f"{protocol}://bucket/scans", "--index", tmp_path / "index") == 1
        assert f"pip install 'cbmir[{extra}]'" in " ".join(capsys.readouterr().err.split())


def test_a_backup_lies_in_a_bucket(
    bucket: Bucket,
    run: Callable[..., JobReport],
    archive: Path,
    model_path: Path,
    tmp_path: Path,
    cbmir: Callable[..., int],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run(archive / "eye")
    monkeypatch.setenv("AWS_ENDPOINT_URL", bucket.origin)  # the door before it only gives
    there = f"s3://{bucket.name}/backups/Größe 1.tar.gz"
    assert cbmir("backup", there, "--index", tmp_path / "index") == 0
    assert cbmir("backup", there, "--index", tmp_path / "index") == 2  # nothing is overwritten
    assert cbmir("restore", there, "--index", tmp_path / "back") == 0
    assert cbmir("restore", f"{there}.none", "--index", tmp_path / "none") == 2
    with open_index(parse_address(tmp_path / "back"), purpose="test") as index:
        assert index.count() == 4
    again = index_archive(small_job((archive / "eye",), model_path, tmp_path / "back"))
    assert (again.files_indexed, again.files_unchanged) == (0, 4)
