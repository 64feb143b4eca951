from __future__ import annotations

import hashlib
import os
import shutil
from pathlib import Path

import pandas as pd
import pydicom
import pytest
from tenacity import wait_none

from model.dataset import fetch as fetching
from model.dataset.bucket import ATTEMPTS, Buckets
from model.dataset.fetch import FetchObserver, fetch_dataset
from model.dataset.lock_file import LOCK, read_lock
from model.dataset.manifest import add_class, read_rows
from model.dataset.tables import write_table
from model.errors import DatasetError, DiskFullError
from model.training.repository import read_repository
from tests.model.dataset.bucket_server import BucketServer


@pytest.fixture
def plan(bucket_server: BucketServer, tmp_path: Path) -> Path:
    write_table(bucket_server.plan, tmp_path / "plan.csv")
    return tmp_path / "plan.csv"


@pytest.fixture(scope="module")
def fetched(_bucket_server: BucketServer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the plan brings; not to be changed."""
    folder = tmp_path_factory.mktemp("fetched")
    write_table(_bucket_server.plan, folder / "plan.csv")
    fetch_dataset(folder / "plan.csv", folder / "set", buckets=Buckets(_bucket_server.endpoint, wait=wait_none()))
    return folder / "set"


def assert_equals_its_lock(folder: Path, count: int = 28) -> None:
    """The folder holds what its lock file says, and nothing else."""
    locked = read_lock(folder / LOCK)
    assert len(locked) == count
    assert {str(path.relative_to(folder)) for path in folder.rglob("*.dcm")} == {one.path for one in locked}
    for one in locked:
        content = (folder / one.path).read_bytes()
        assert len(content) == one.size
        assert hashlib.md5(content).hexdigest() == one.etag
    assert not list(folder.rglob("*.partial"))


def test_the_planned_slices_come_and_nothing_else(plan: Path, buckets: Buckets, tmp_path: Path) -> None:
    report = fetch_dataset(plan, tmp_path / "set", buckets=buckets)
    assert (report.files, report.fetched, report.left_out) == (28, 28, {})
    assert_equals_its_lock(tmp_path / "set")
    by_series: dict[str, list[float]] = {}
    for path in (tmp_path / "set").rglob("*.dcm"):
        ds = pydicom.dcmread(path)
        assert "LOCALIZER" not in ds.ImageType
        by_series.setdefault(ds.SeriesInstanceUID, []).append(float(ds.ImagePositionPatient[2]))
    # Of three pictures at 0, 5 and 10 mm, those at a quarter and at three quarters of the way.
    assert {tuple(sorted(places)) for places in by_series.values()} == {(0.0, 10.0)}
    files = read_repository(tmp_path / "set" / "manifest.csv")
    assert {file.label for file in files} == {"brain", "knee"}
    assert len({file.group for file in files}) == 7
    text = (tmp_path / "set" / "manifest.csv").read_text() + (tmp_path / "set" / LOCK).read_text()
    assert "brain0" not in text  # a Patient ID


def test_a_second_run_fetches_nothing_and_a_damaged_file_anew(
    plan: Path, fetched: Path, buckets: Buckets, bucket_server: BucketServer, tmp_path: Path
) -> None:
    folder = tmp_path / "set"
    shutil.copytree(fetched, folder)
    bucket_server.faults.requests.clear()
    assert fetch_dataset(plan, folder, buckets=buckets).fetched == 0
    assert not bucket_server.faults.requests
    one, other = sorted(folder.rglob("*.dcm"))[:2]
    one.write_bytes(one.read_bytes()[:-1] + b"?")
    other.unlink()
    assert fetch_dataset(plan, folder, buckets=buckets).fetched == 2
    assert_equals_its_lock(folder)


def test_a_lock_file_brings_the_same_again(plan: Path, fetched: Path, buckets: Buckets, tmp_path: Path) -> None:
    shutil.copytree(fetched, tmp_path / "set")
    fetch_dataset(tmp_path / "set" / LOCK, tmp_path / "again", buckets=buckets)
    assert_equals_its_lock(tmp_path / "again")
    assert (tmp_path / "again" / LOCK).read_bytes() == (tmp_path / "set" / LOCK).read_bytes()
    assert (tmp_path / "again" / "manifest.csv").read_bytes() == (tmp_path / "set" / "manifest.csv").read_bytes()


def test_cut_connections_wrong_bytes_and_busy_servers_are_overcome(
    plan: Path, fetched: Path, buckets: Buckets, bucket_server: BucketServer, tmp_path: Path
) -> None:
    shutil.copytree(fetched, tmp_path / "known")
    names = [one.address.rpartition("/")[2] for one in read_lock(tmp_path / "known" / LOCK)]
    faults = bucket_server.faults
    faults.cut.update({names[0]: 2, names[1]: 1})
    faults.damaged.update({names[2]: 1, names[0]: 1})
    faults.unavailable.update({names[3]: ATTEMPTS - 1, "/": 1, BUCKET_LIST: 3})
    report = fetch_dataset(plan, tmp_path / "set", buckets=buckets)
    assert report.left_out == {}
    assert_equals_its_lock(tmp_path / "set")
    assert not +faults.cut
    assert not +faults.damaged


BUCKET_LIST = "/idc-open-data"
"""How the address of a listing ends."""


def test_what_stays_broken_is_named_and_stops_nothing(
    plan: Path, fetched: Path, buckets: Buckets, bucket_server: BucketServer, tmp_path: Path
) -> None:
    shutil.copytree(fetched, tmp_path / "known")
    one, other = read_lock(tmp_path / "known" / LOCK)[:2]
    bucket_server.faults.damaged[one.address.rpartition("/")[2]] = 99
    bucket_server.faults.cut[other.address.rpartition("/")[2]] = 99
    report = fetch_dataset(plan, tmp_path / "set", buckets=buckets)
    assert set(report.left_out) == {one.address, other.address}
    assert "checksum" in report.left_out[one.address]
    assert report.files == 26
    assert not list((tmp_path / "set").rglob("*.partial"))
    bucket_server.faults.damaged.clear()
    bucket_server.faults.cut.clear()
    assert fetch_dataset(plan, tmp_path / "set", buckets=buckets).fetched == 2
    assert_equals_its_lock(tmp_path / "set")


def test_a_series_that_is_gone_is_named(
    plan: Path, buckets: Buckets, bucket_server: BucketServer, tmp_path: Path
) -> None:
    moved = bucket_server.plan.copy()
    moved.loc[0, "address"] = "s3://idc-open-data/gone/"
    moved.loc[1, "slices"], moved.loc[1, "fractions"] = 4, "0.1;0.3;0.6;0.8"  # it has three pictures
    write_table(moved, plan)
    report = fetch_dataset(plan, tmp_path / "set", buckets=buckets)
    assert report.files == 24
    assert "holds nothing" in report.left_out["s3://idc-open-data/gone/"]
    assert "3 pictures of the 4" in report.left_out[str(moved.loc[1, "address"])]


def test_an_interrupted_run_goes_on(plan: Path, buckets: Buckets, tmp_path: Path) -> None:
    class Impatient(FetchObserver):
        def fetched(self, done: int, total: int, size: int) -> None:
            if done == 5:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fetch_dataset(plan, tmp_path / "set", buckets=buckets, observer=Impatient(), connections=1)
    assert 5 <= len(list((tmp_path / "set").rglob("*.dcm"))) < 28
    lock = tmp_path / "set" / LOCK
    lock.write_text(lock.read_text()[:-300])  # as if the write of the last series had been cut off
    report = fetch_dataset(plan, tmp_path / "set", buckets=buckets)
    assert report.files == 28
    assert report.fetched <= 23
    assert_equals_its_lock(tmp_path / "set")


def test_a_disk_that_is_too_small_or_becomes_full(
    plan: Path, buckets: Buckets, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as small:
        small.setattr(fetching, "SPARE_BYTES", shutil.disk_usage(tmp_path).total)
        with pytest.raises(DiskFullError, match="make room"):
            fetch_dataset(plan, tmp_path / "set", buckets=buckets)
    assert not list((tmp_path / "set").rglob("*.dcm"))
    replace = Path.replace

    def full(self: Path, target: Path) -> Path:
        if str(target).endswith(".dcm") and len(list((tmp_path / "set").rglob("*.dcm"))) >= 3:
            raise OSError(28, os.strerror(28))
        return replace(self, target)

    with monkeypatch.context() as filling:
        filling.setattr(Path, "replace", full)
        with pytest.raises(DiskFullError, match="run the same command again"):
            fetch_dataset(plan, tmp_path / "set", buckets=buckets, connections=1)
    assert not list((tmp_path / "set").rglob("*.partial"))
    fetch_dataset(plan, tmp_path / "set", buckets=buckets)
    assert_equals_its_lock(tmp_path / "set")


def test_a_plan_with_other_slices_does_not_pass_for_this_one(
    plan: Path, fetched: Path, buckets: Buckets, bucket_server: BucketServer, tmp_path: Path
) -> None:
    shutil.copytree(fetched, tmp_path / "set")
    grown = bucket_server.plan.copy()
    grown.loc[0, "slices"], grown.loc[0, "fractions"] = 3, "0.1;0.5;0.9"
    write_table(grown, plan)
    with pytest.raises(DatasetError, match="other slices"):
        fetch_dataset(plan, tmp_path / "set", buckets=buckets)


def test_a_lock_file_fills_up_a_folder_that_has_a_part_of_it(
    plan: Path, fetched: Path, buckets: Buckets, tmp_path: Path
) -> None:
    shutil.copytree(fetched, tmp_path / "set")
    lines = (tmp_path / "set" / LOCK).read_text().splitlines(keepends=True)
    (tmp_path / "part").mkdir()
    (tmp_path / "part" / LOCK).write_text("".join(lines[:5]))
    assert fetch_dataset(tmp_path / "set" / LOCK, tmp_path / "part", buckets=buckets).files == 28
    assert_equals_its_lock(tmp_path / "part")


def test_a_last_line_that_was_cut_anywhere_is_not_believed(
    plan: Path, fetched: Path, buckets: Buckets, tmp_path: Path
) -> None:
    shutil.copytree(fetched, tmp_path / "set")
    whole = (tmp_path / "set" / LOCK).read_text()
    last = len(whole.splitlines()[-1])
    for cut in range(1, last + 1, 7):
        (tmp_path / "cut.csv").write_text(whole[:-cut])
        assert len(read_lock(tmp_path / "cut.csv")) == 27


@pytest.mark.parametrize(
    ("column", "value"), [("label", "../x"), ("label", "/x"), ("instance", "../../x"), ("series", "")]
)
def test_a_lock_file_cannot_lead_out_of_the_folder(
    plan: Path, fetched: Path, buckets: Buckets, tmp_path: Path, column: str, value: str
) -> None:
    shutil.copytree(fetched, tmp_path / "set")
    table = pd.read_csv(tmp_path / "set" / LOCK, dtype=str)
    table.loc[0, column] = value
    table.to_csv(tmp_path / "evil.csv", index=False)
    with pytest.raises(DatasetError, match="is no"):
        fetch_dataset(tmp_path / "evil.csv", tmp_path / "other", buckets=buckets)


def test_a_plan_that_was_edited_badly(
    plan: Path, buckets: Buckets, bucket_server: BucketServer, tmp_path: Path
) -> None:
    edited = bucket_server.plan.copy()
    edited.loc[0, "fractions"] = ""
    write_table(edited, plan)
    report = fetch_dataset(plan, tmp_path / "set", buckets=buckets)
    assert (report.files, len(report.left_out)) == (26, 1)
    write_table(edited.assign(slices="many"), plan)
    with pytest.raises(DatasetError, match="many"):
        fetch_dataset(plan, tmp_path / "other", buckets=buckets)
    plan.write_bytes(bytes(range(256)))
    with pytest.raises(DatasetError, match="cannot be read"):
        fetch_dataset(plan, tmp_path / "other", buckets=buckets)


def test_the_archives_own_server_needs_no_endpoint() -> None:
    # Without network nothing answers, with it there is no such object: in both cases the address itself is right.
    with pytest.raises(DatasetError, match="s3://idc-open-data/absent cannot be fetched"):
        Buckets(wait=wait_none()).start("s3://idc-open-data/absent", 1)


def test_an_archive_out_of_reach_ends_the_run(
    plan: Path, fetched: Path, tmp_path: Path, buckets: Buckets, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetching, "HOPELESS", 3)
    nowhere = Buckets("http://127.0.0.1:9", wait=wait_none())
    with pytest.raises(DatasetError, match="none of the first 3 could be had"):
        fetch_dataset(plan, tmp_path / "set", buckets=nowhere)
    shutil.copytree(fetched, tmp_path / "whole")
    shutil.copy(tmp_path / "whole" / LOCK, tmp_path / "plan.lock.csv")
    with pytest.raises(DatasetError, match="none of the first 3 could be had"):
        fetch_dataset(tmp_path / "plan.lock.csv", tmp_path / "set", buckets=nowhere)


def test_another_plan_does_not_mix_in(
    plan: Path, fetched: Path, buckets: Buckets, bucket_server: BucketServer, tmp_path: Path
) -> None:
    shutil.copytree(fetched, tmp_path / "set")
    write_table(bucket_server.plan.iloc[:3], plan)
    with pytest.raises(DatasetError, match="not of this plan"):
        fetch_dataset(plan, tmp_path / "set", buckets=buckets)
    for source, message in ((tmp_path / "none.csv", "does not exist"), (tmp_path, "is a folder")):
        with pytest.raises(DatasetError, match=message):
            fetch_dataset(source, tmp_path / "set", buckets=buckets)


def test_an_added_image_joins_the_fetched_ones_of_its_patient(
    plan: Path, fetched: Path, buckets: Buckets, tmp_path: Path
) -> None:
    shutil.copytree(fetched, tmp_path / "set")
    first = read_rows(tmp_path / "set").iloc[0]
    ds = pydicom.dcmread(tmp_path / "set" / first["path"])
    for name, patient in (("same", ds.PatientID), ("other", "somebody else")):
        ds.PatientID = patient
        (tmp_path / name).mkdir()
        ds.save_as(tmp_path / name / f"{name}.dcm")
        add_class(tmp_path / "set", "more", tmp_path / name)
    groups = read_rows(tmp_path / "set").set_index("path")["group"]
    assert groups["more/same.dcm"] == first["group"]
    assert list(groups).count(groups["more/other.dcm"]) == 1


def test_what_it_will_take_is_told(
    plan: Path, buckets: Buckets, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetching, "PROBE_SECONDS", 0.0)
    told: list[object] = []

    class Listener(FetchObserver):
        def planned(self, files: int, size: int, headers: int, licences: dict[str, int]) -> None:
            assert (files, licences) == (28, {"CC BY 4.0": 28})
            assert size > 0 < headers
            told.append("planned")

        def begins(self, files: int, size: int, licences: dict[str, int]) -> None:
            told.append((files, size, licences))

        def estimated(self, seconds: float) -> None:
            told.append(seconds)

    fetch_dataset(plan, tmp_path / "set", buckets=buckets, observer=Listener())
    size = sum(one.size for one in read_lock(tmp_path / "set" / LOCK))
    assert told[:2] == ["planned", (28, size, {"CC BY 4.0": 28})]
    assert isinstance(told[2], float)
    assert told[2] > 0
    assert len(told) == 3
