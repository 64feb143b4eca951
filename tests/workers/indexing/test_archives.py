from __future__ import annotations

import os
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

import fsspec
import pytest
from pydicom import dcmread
from pydicom.fileset import FileSet

from index.roots import Archive, number_roots
from model.errors import JobError
from model.images.reading import read_frames
from tests.support import phantoms
from workers.indexing.archives import resolve_archive, resolve_archives
from workers.indexing.discovery import discover
from workers.indexing.planning import Plan, plan_files


@pytest.fixture
def scans(tmp_path: Path) -> Path:
    folder = tmp_path / "scans"
    for number, organ in enumerate(("brain", "knee", "eye")):
        path = folder / organ / f"{number}.dcm"
        path.parent.mkdir(parents=True)
        ds = phantoms.dicom([phantoms.draw(organ, number)], organ, number)
        ds.StudyDate, ds.StudyTime, ds.StudyID, ds.SeriesNumber, ds.InstanceNumber = (
            "20200101",
            "120000",
            "1",
            1,
            number,
        )
        ds.save_as(path, enforce_file_format=True)
    return folder


@pytest.fixture
def memory() -> Iterator[fsspec.AbstractFileSystem]:
    system = fsspec.filesystem("memory")
    yield system
    system.store.clear()
    system.pseudo_dirs.clear()


def write_disk(folder: Path, *paths: Path) -> None:
    files = FileSet()
    for path in paths:
        files.add(path)
    files.write(folder)
    files._stage["t"].cleanup()


def pictures(*named: str | Path, listed: tuple[str, ...] = ()) -> dict[str, tuple[int, ...]]:
    """Path below its root → shape, of every file that a job would read."""
    _, roots = number_roots((), resolve_archives(named, listed))
    files = plan_files(roots, None, Plan())
    return {file.key.path: frame.pixels.shape for file in files for frame in read_frames(file.address)}


SHAPES = {"brain/0.dcm": (256, 256), "eye/2.dcm": (256, 256), "knee/1.dcm": (256, 256)}


def test_two_ways_to_a_folder_are_one_archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "scans").mkdir()
    monkeypatch.chdir(tmp_path / "scans")
    assert resolve_archive("../scans") == resolve_archive(".") == Archive(str(tmp_path / "scans"))


@pytest.mark.parametrize("named", ["absent", "absent/*.dcm", "memory://absent", "nonsense://x", "zip://a::/absent.zip"])
def test_what_does_not_exist_is_named(named: str) -> None:
    with pytest.raises(JobError, match=r"does not exist|cannot be reached|names no file"):
        resolve_archives([named])


def test_members_of_zip_and_tar_files(scans: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as packed:
        for path in scans.rglob("*.dcm"):
            packed.write(path, path.relative_to(scans))
    assert resolve_archive(tmp_path / "a.zip") == Archive(f"zip://::{tmp_path}/a.zip")
    assert pictures(tmp_path / "a.zip") == SHAPES
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        tar.add(scans, "")
    assert pictures(tmp_path / "a.tar") == SHAPES
    with tarfile.open(tmp_path / "a.tar.gz", "w:gz") as tar:
        tar.add(scans, ".")  # as "tar -C scans ." writes it
    assert pictures(tmp_path / "a.tar.gz") == {f"./{path}": shape for path, shape in SHAPES.items()}


def test_a_zip_file_written_anew_is_read_anew(scans: Path, tmp_path: Path) -> None:
    def numbers() -> dict[str, int]:
        root = number_roots((), resolve_archives([tmp_path / "a.zip"]))[1][0]
        return {file.name: file.mtime_ns for directory in discover(root) for file in directory.files}

    with zipfile.ZipFile(tmp_path / "a.zip", "w") as packed:
        packed.write(scans / "brain" / "0.dcm", "same.dcm")
        packed.write(scans / "brain" / "0.dcm", "other.dcm")
    first = numbers()
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as packed:
        packed.write(scans / "brain" / "0.dcm", "same.dcm")
        packed.write(scans / "knee" / "1.dcm", "other.dcm")
    second = numbers()
    assert first["same.dcm"] == second["same.dcm"]
    assert first["other.dcm"] != second["other.dcm"]


def test_a_glob_and_a_list(scans: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(scans)
    assert set(pictures("**/[12].dcm")) == {"knee/1.dcm", "eye/2.dcm"}
    assert set(pictures("-", listed=("brain/0.dcm\n", f"{scans}/knee\n", "\n"))) == {"brain/0.dcm", "knee/1.dcm"}
    with pytest.raises(JobError, match="names no file"):
        resolve_archives(["-"], ["\n"])


def test_a_dicomdir_stands_for_its_members_once(scans: Path, tmp_path: Path) -> None:
    write_disk(tmp_path / "disk", *scans.rglob("*.dcm"))
    (tmp_path / "disk" / "stray.dcm").write_bytes((scans / "brain" / "0.dcm").read_bytes())
    archive = resolve_archive(tmp_path / "disk" / "DICOMDIR")
    assert (archive.address, len(archive.members or ())) == (str(tmp_path / "disk"), 3)
    assert len(pictures(tmp_path / "disk" / "DICOMDIR")) == 3
    assert (
        pictures(tmp_path / "disk" / "DICOMDIR", tmp_path / "disk" / "DICOMDIR").keys()
        == pictures(tmp_path / "disk" / "DICOMDIR").keys()
    )


def test_names_on_a_disk_in_lower_case_are_found(scans: Path, tmp_path: Path) -> None:
    write_disk(tmp_path / "disk", scans / "brain" / "0.dcm")
    for path in sorted((tmp_path / "disk").rglob("*"), reverse=True):
        if path.name != "DICOMDIR":
            path.rename(path.with_name(path.name.lower()))
    assert len(pictures(tmp_path / "disk" / "DICOMDIR")) == 1


def test_an_fsspec_address(scans: Path, memory: fsspec.AbstractFileSystem) -> None:
    memory.put(f"{scans}/", "bucket/", recursive=True)
    assert pictures("memory://bucket") == SHAPES
    assert pictures("memory://bucket/brain") == {"0.dcm": (256, 256)}
    assert pictures("memory://bucket/brain/0.dcm") == {"": (256, 256)}


def test_a_zip_file_on_another_file_system(scans: Path, memory: fsspec.AbstractFileSystem) -> None:
    with memory.open("bucket/a.zip", "wb") as file, zipfile.ZipFile(file, "w") as packed:
        packed.write(scans / "brain" / "0.dcm", "x/0.dcm")
    assert pictures("zip://::memory://bucket/a.zip") == {"x/0.dcm": (256, 256)}


def test_a_pipe_is_no_archive_to_wait_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    assert resolve_archive(tmp_path / "pipe") == Archive(str(tmp_path / "pipe"))
    assert pictures(tmp_path / "pipe") == {}


def test_a_tar_file_is_told_by_its_content(scans: Path, tmp_path: Path) -> None:
    for name, mode in (("a.tgz", "w:gz"), ("a.txz", "w:xz"), ("archive", "w:bz2")):
        with tarfile.open(tmp_path / name, mode) as tar:  # type: ignore[call-overload] # modes of a loop
            tar.add(scans, "")
        assert pictures(tmp_path / name) == SHAPES


def test_a_name_in_a_tar_file_that_is_not_utf_8_is_left_out(scans: Path, tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "a.tar", "w", encoding="latin-1", format=tarfile.USTAR_FORMAT) as tar:
        tar.add(scans / "brain" / "0.dcm", "M\xfcller.dcm")
        tar.add(scans / "knee" / "1.dcm", "1.dcm")
    plan = Plan()
    _, roots = number_roots((), resolve_archives([tmp_path / "a.tar"]))
    assert [file.key.path for file in plan_files(roots, None, plan)] == ["1.dcm"]
    assert list(plan.unreadable.values()) == ["its name is not UTF-8"]


def test_an_archive_that_went_away_stops_no_other(
    scans: Path, memory: fsspec.AbstractFileSystem, tmp_path: Path
) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as packed:
        packed.write(scans / "brain" / "0.dcm", "0.dcm")
    archives = resolve_archives([tmp_path / "a.zip", scans / "knee"])
    (tmp_path / "a.zip").write_bytes(b"no zip file any more")
    plan = Plan()
    files = list(plan_files(number_roots((), archives)[1], None, plan))
    assert [file.key.path for file in files] == ["1.dcm"]
    assert len(plan.unreadable) == 1


def test_a_dicomdir_does_not_lead_out_of_its_folder(scans: Path, tmp_path: Path) -> None:
    write_disk(tmp_path / "outer" / "disk", scans / "brain" / "0.dcm")
    (tmp_path / "outer" / "secret.dcm").write_bytes((scans / "knee" / "1.dcm").read_bytes())
    ds = dcmread(tmp_path / "outer" / "disk" / "DICOMDIR")
    for name in (["..", "secret.dcm"], ["/etc"], ["."]):
        ds.DirectoryRecordSequence[-1].ReferencedFileID = name
        ds.save_as(tmp_path / "outer" / "disk" / "DICOMDIR")
        assert resolve_archive(tmp_path / "outer" / "disk" / "DICOMDIR").members == ()


def test_what_a_glob_names_twice_is_walked_once(scans: Path) -> None:
    _, roots = number_roots((), resolve_archives([f"{scans}/**", str(scans)]))
    files = [file.address for file in plan_files(roots, None, Plan())]
    assert len(files) == len(set(files)) == 3


def test_nested_roots_of_other_file_systems(scans: Path, memory: fsspec.AbstractFileSystem) -> None:
    memory.put(f"{scans}/", "bucket/", recursive=True)
    names, _ = number_roots((), resolve_archives(["memory://bucket/brain"]))
    names, roots = number_roots(names, resolve_archives(["memory://bucket"]))
    assert names == ("memory://bucket/brain", "memory://bucket")
    found = sorted((file.key.root, file.key.path) for file in plan_files(roots, None, Plan()))
    assert found == [(0, "0.dcm"), (1, "eye/2.dcm"), (1, "knee/1.dcm")]


@pytest.mark.parametrize("address", ["ftp://user:secret@[::1]:21/scans", "zip://::sftp://user:secret@host/scans.zip"])
def test_a_password_in_an_address_is_refused_and_not_repeated(address: str) -> None:
    with pytest.raises(JobError, match="cannot hold a password") as refused:
        resolve_archive(address)
    assert "secret" not in str(refused.value)


def test_an_archive_whose_name_is_no_text_is_refused(tmp_path: Path) -> None:
    folder = Path(os.fsdecode(os.fsencode(tmp_path) + b"/b\xfcro"))
    folder.mkdir()
    (folder / "a.dcm").touch()
    for named in (folder, folder / "a.dcm", str(folder / "*.dcm")):
        with pytest.raises(JobError, match=r"udcfcro.* is not UTF-8"):
            resolve_archive(named)
