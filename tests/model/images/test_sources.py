from __future__ import annotations

import gzip
import io
import zipfile
import zlib
from pathlib import Path

import pytest
from pydicom.uid import DeflatedExplicitVRLittleEndian

from model.errors import ImageError, Reason
from model.images.reading import read_frames
from model.images.sources import describe_error, join
from tests.support import phantoms


@pytest.fixture
def scan(tmp_path: Path) -> Path:
    path = tmp_path / "scan.dcm"
    phantoms.dicom([phantoms.draw("knee", 1)] * 3, "knee", 1).save_as(path, enforce_file_format=True)
    return path


def reason(path: Path) -> Reason:
    with pytest.raises(ImageError) as raised:
        list(read_frames(path))
    return raised.value.reason


def test_gzip_is_read_as_what_is_in_it(scan: Path, tmp_path: Path) -> None:
    packed = tmp_path / "scan.dcm.gz"
    packed.write_bytes(gzip.compress(scan.read_bytes()))
    assert [f.identity for f in read_frames(packed)] == [f.identity for f in read_frames(scan)]
    packed.write_bytes(gzip.compress(scan.read_bytes())[:-2000])
    assert reason(packed) is Reason.CORRUPT
    packed.write_bytes(gzip.compress(b"notes"))
    assert reason(packed) is Reason.NOT_AN_IMAGE
    packed.write_bytes(b"\x1f\x8b\x08")
    assert reason(packed) is Reason.CORRUPT


def test_a_large_packed_file_goes_through_a_temporary_one(
    scan: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    packed = tmp_path / "scan.dcm.gz"
    packed.write_bytes(gzip.compress(scan.read_bytes()))
    expected = [frame.identity for frame in read_frames(scan)]
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "tmp"))
    monkeypatch.setattr("model.images.sources.WHOLE_FILE_LIMIT", 1000)
    frames = read_frames(packed)
    assert next(frames).identity == expected[0]
    assert len(list((tmp_path / "tmp").iterdir())) == 1
    assert [frame.identity for frame in frames] == expected[1:]
    assert list((tmp_path / "tmp").iterdir()) == []


def test_bombs_are_refused_unpacked(scan: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bomb = tmp_path / "bomb"
    monkeypatch.setattr("model.images.sources.WHOLE_FILE_LIMIT", 2**20)
    monkeypatch.setattr("model.images.sources.MAX_INFLATED", 2**23)
    bomb.write_bytes(gzip.compress(bytes(2**26)))
    assert reason(bomb) is Reason.NOT_AN_IMAGE
    bomb.write_bytes(gzip.compress(scan.read_bytes() + bytes(2**26)))
    assert reason(bomb) is Reason.TOO_LARGE


def test_a_deflated_bomb_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ds = phantoms.dicom([phantoms.draw("knee", 1)], "knee", 1, syntax=DeflatedExplicitVRLittleEndian)
    path = tmp_path / "deflated.dcm"
    ds.save_as(path, enforce_file_format=True)
    assert len(list(read_frames(path))) == 1
    content = path.read_bytes()
    start = 144 + int.from_bytes(content[140:144], "little")
    compress = zlib.compressobj(9, wbits=-zlib.MAX_WBITS)
    path.write_bytes(content[:start] + compress.compress(bytes(2**25)) + compress.flush())
    monkeypatch.setattr("model.images.dicom.MAX_DATASET", 2**24)
    assert reason(path) is Reason.TOO_LARGE


def test_only_the_frame_that_is_asked_for_is_decoded(scan: Path, tmp_path: Path) -> None:
    [second] = read_frames(scan, only=2)
    assert (second.number, second.of) == (2, 3)
    assert list(read_frames(scan, only=4)) == []
    content = scan.read_bytes()
    cut = tmp_path / "cut.dcm"
    cut.write_bytes(content[:-1000])
    assert reason(cut) is Reason.CORRUPT


def test_paths_below_roots_of_every_kind() -> None:
    assert join("/data", "a/b") == "/data/a/b"
    assert join("/data/a.dcm", "") == "/data/a.dcm"
    assert join("/", "a") == "/a"
    assert join("zip://::/data/a.zip", "b::c/d") == "zip://b::c/d::/data/a.zip"
    assert join("zip://x::s3://bucket/a.zip", "d") == "zip://x/d::s3://bucket/a.zip"


def test_a_deflated_bomb_is_refused_whatever_its_meta_header_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ds = phantoms.dicom([phantoms.draw("knee", 1)], "knee", 1, syntax=DeflatedExplicitVRLittleEndian)
    ds.save_as(tmp_path / "one", enforce_file_format=True)
    content = (tmp_path / "one").read_bytes()
    start = 144 + int.from_bytes(content[140:144], "little")
    compress = zlib.compressobj(9, wbits=-zlib.MAX_WBITS)
    bomb = compress.compress(bytes(2**25)) + compress.flush()
    monkeypatch.setattr("model.images.dicom.MAX_DATASET", 2**24)
    for header in (content[:140] + b"\xff\xff\xff\x7f" + content[144:start], content[:132] + content[144:start]):
        (tmp_path / "one").write_bytes(header + bomb)
        assert reason(tmp_path / "one") is Reason.TOO_LARGE


class _Dribble(io.BytesIO):
    """A stream that gives a few bytes at a time, as one over a network does."""

    def read(self, size: int | None = -1) -> bytes:
        return super().read(min(size, 100) if size and size > 0 else size)


def test_streams_that_give_little_at_a_time_are_read_to_the_end(scan: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = scan.read_bytes()
    monkeypatch.setattr("model.images.sources._open", lambda _address: _Dribble(content))
    frames = read_frames("memory://scan.dcm")
    assert [frame.identity for frame in frames] == [frame.identity for frame in read_frames(scan)]


def test_errors_do_not_name_the_file(tmp_path: Path) -> None:
    path = tmp_path / "DOE^JOHN.zip"
    with zipfile.ZipFile(path, "w") as packed:
        packed.writestr("DOE^JOHN/1.dcm", b"x" * 1000)
    content = bytearray(path.read_bytes())
    content[content.index(b"x" * 1000) + 5] ^= 1  # a wrong checksum, of which zipfile says the file's name
    path.write_bytes(content)
    with pytest.raises(ImageError) as raised:
        list(read_frames(f"zip://DOE^JOHN/1.dcm::{path}"))
    assert raised.value.reason in (Reason.CORRUPT, Reason.NOT_AN_IMAGE)
    assert "DOE" not in raised.value.detail
    assert describe_error(FileNotFoundError(f"{path}"), str(path)) == "…"
    assert (
        describe_error(RuntimeError("File 'DOE^JOHN/1.dcm' is encrypted"), f"zip://DOE^JOHN/1.dcm::{path}").count("DOE")
        == 0
    )
