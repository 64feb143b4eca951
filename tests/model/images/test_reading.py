from __future__ import annotations

import hashlib
import shutil
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from pydicom import dcmread, dcmwrite
from pydicom.dataset import FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, MRImageStorage

from model.errors import ImageError, Reason
from model.images.reading import read_frames
from tests.support import phantoms


def write(path: Path, **settings: object) -> Path:
    phantoms.dicom([phantoms.draw("brain", 1, 64)], "brain", 1).save_as(path, enforce_file_format=True)
    return path


@pytest.mark.parametrize("syntax", phantoms.SYNTAXES, ids=lambda syntax: syntax.name)
def test_every_transfer_syntax_gives_the_drawn_picture(tmp_path: Path, syntax: object) -> None:
    picture = phantoms.draw("abdomen", 3, 64)
    phantoms.dicom([picture], "abdomen", 3, syntax=syntax).save_as(tmp_path / "file", enforce_file_format=True)
    [frame] = read_frames(tmp_path / "file")
    assert np.abs(frame.pixels - picture * 255).max() <= 1
    assert (frame.number, frame.of) == (1, 1)
    assert frame.header.modality == "CT"
    assert frame.header.sop_instance_uid == phantoms.uid("abdomen", 3)


def test_lossless_copies_in_two_syntaxes_are_one_picture(tmp_path: Path) -> None:
    identities = set()
    for number, syntax in enumerate(phantoms.SYNTAXES):
        ds = phantoms.dicom([phantoms.draw("knee", 1, 64)], "knee", 1, syntax=syntax)
        ds.save_as(tmp_path / str(number), enforce_file_format=True)
        identities |= {frame.identity for frame in read_frames(tmp_path / str(number))}
    assert len(identities) == 1


def test_a_repeated_uid_with_other_pixels_is_another_picture(tmp_path: Path) -> None:
    for seed in (1, 2):
        ds = phantoms.dicom([phantoms.draw("knee", seed, 64)], "knee", "same")
        ds.save_as(tmp_path / str(seed), enforce_file_format=True)
    one, two = (next(read_frames(tmp_path / str(seed))) for seed in (1, 2))
    assert one.header.sop_instance_uid == two.header.sop_instance_uid
    assert one.identity != two.identity


def test_frames_of_a_multi_frame_object_come_in_order(tmp_path: Path) -> None:
    pictures = [phantoms.draw("brain", seed, 64) for seed in range(4)]
    phantoms.dicom(pictures, "brain", "cine").save_as(tmp_path / "cine", enforce_file_format=True)
    frames = list(read_frames(tmp_path / "cine"))
    assert [(frame.number, frame.of) for frame in frames] == [(1, 4), (2, 4), (3, 4), (4, 4)]
    for frame, picture in zip(frames, pictures, strict=True):
        assert np.abs(frame.pixels - picture * 255).max() <= 1
    assert len({frame.identity for frame in frames}) == 4


def test_dicom_without_preamble_or_meta_header_is_read(tmp_path: Path) -> None:
    whole = write(tmp_path / "whole")
    (tmp_path / "no-preamble").write_bytes(whole.read_bytes()[132:])
    ds = dcmread(whole)
    ds.preamble, ds.file_meta = None, FileMetaDataset()
    dcmwrite(tmp_path / "no-meta", ds, implicit_vr=True, little_endian=True, enforce_file_format=False)
    assert (tmp_path / "no-meta").read_bytes().startswith(b"\x08\x00\x16\x00")  # SOP Class UID
    expected = next(read_frames(whole)).pixels
    for name in ("no-preamble", "no-meta"):
        assert (next(read_frames(tmp_path / name)).pixels == expected).all()


def test_large_files_are_read_frame_by_frame(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pictures = [phantoms.draw("brain", seed, 64) for seed in range(3)]
    path = tmp_path / "cine"
    phantoms.dicom(pictures, "brain", "cine").save_as(path, enforce_file_format=True)
    at_once = list(read_frames(path))
    monkeypatch.setattr("model.images.sources.WHOLE_FILE_LIMIT", 100)
    one_by_one = list(read_frames(path))
    ds = dcmread(path)
    ds.preamble, ds.file_meta = None, FileMetaDataset()
    dcmwrite(tmp_path / "no-meta", ds, implicit_vr=True, little_endian=True, enforce_file_format=False)
    assert [frame.number for frame in read_frames(tmp_path / "no-meta")] == [1, 2, 3]
    pages = tmp_path / "page.png"
    Image.new("L", (300, 300), 9).save(pages)
    assert [frame.identity for frame in read_frames(pages)] == [
        f"file/{hashlib.sha256(pages.read_bytes()).hexdigest()}/1"
    ]
    assert [frame.identity for frame in one_by_one] == [frame.identity for frame in at_once]
    assert one_by_one[0].header == at_once[0].header


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("empty.dcm", b"", Reason.EMPTY_FILE),
        ("text.dcm", b"no image at all, only words " * 20, Reason.NOT_AN_IMAGE),
        ("half.png", b"\x89PNG\r\n\x1a\n" + b"\0" * 50, Reason.CORRUPT),
        ("half.jpg", b"\xff\xd8\xff\xe0" + b"\0" * 50, Reason.CORRUPT),
        ("half.tif", b"II*\x00" + b"\xff" * 50, Reason.CORRUPT),
        ("short.dcm", b"\0" * 128 + b"DICM", Reason.CORRUPT),
    ],
)
def test_what_is_no_image_is_named(tmp_path: Path, name: str, content: bytes, reason: Reason) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ImageError) as caught:
        list(read_frames(tmp_path / name))
    assert caught.value.reason is reason
    assert name in str(caught.value)


def test_missing_file_and_folder_are_unreadable(tmp_path: Path) -> None:
    for path in (tmp_path / "absent", tmp_path):
        with pytest.raises(ImageError) as caught:
            list(read_frames(path))
        assert caught.value.reason is Reason.UNREADABLE


def test_truncated_dicom_is_corrupt(tmp_path: Path) -> None:
    whole = write(tmp_path / "whole").read_bytes()
    (tmp_path / "half").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ImageError) as caught:
        list(read_frames(tmp_path / "half"))
    assert caught.value.reason is Reason.CORRUPT


def test_absurd_size_costs_nothing(tmp_path: Path) -> None:
    ds = dcmread(write(tmp_path / "file"))
    ds.Rows = ds.Columns = 65535
    ds.save_as(tmp_path / "absurd")
    with pytest.raises(ImageError) as caught:
        list(read_frames(tmp_path / "absurd"))
    assert caught.value.reason is Reason.TOO_LARGE


def test_a_picture_bomb_is_refused_before_it_is_decoded(tmp_path: Path) -> None:
    Image.new("1", (30_000, 30_000)).save(tmp_path / "bomb.png")
    with pytest.raises(ImageError) as caught:
        list(read_frames(tmp_path / "bomb.png"))
    assert caught.value.reason is Reason.TOO_LARGE


def test_objects_without_picture_are_left_out_by_name(tmp_path: Path) -> None:
    ds = dcmread(write(tmp_path / "file"))
    ds.SOPClassUID = "1.2.840.10008.5.1.4.1.1.66.4"
    ds.save_as(tmp_path / "segmentation")
    ds.SOPClassUID = MRImageStorage
    del ds.PixelData
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.save_as(tmp_path / "no-pixels")
    for name, reason in (("segmentation", Reason.NOT_A_PICTURE), ("no-pixels", Reason.NO_PIXEL_DATA)):
        with pytest.raises(ImageError) as caught:
            list(read_frames(tmp_path / name))
        assert caught.value.reason is reason


def test_the_name_says_nothing(tmp_path: Path) -> None:
    write(tmp_path / "really-dicom.jpg")
    Image.new("L", (8, 8), 7).save(tmp_path / "file", format="PNG")
    shutil.copy(tmp_path / "file", tmp_path / "really-png.dcm")
    assert next(read_frames(tmp_path / "really-dicom.jpg")).header.modality == "MR"
    assert next(read_frames(tmp_path / "really-png.dcm")).pixels.tolist() == [[7] * 8] * 8


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    places=st.lists(st.tuples(st.floats(0, 1), st.integers(0, 255)), min_size=1, max_size=20),
    cut=st.floats(0.05, 1),
    syntax=st.sampled_from(phantoms.SYNTAXES),
)
def test_damaged_files_are_read_or_named(
    tmp_path: Path, places: list[tuple[float, int]], cut: float, syntax: object
) -> None:
    path = tmp_path / "damaged"
    phantoms.dicom([phantoms.draw("eye", 1, 32)], "eye", 1, syntax=syntax).save_as(path, enforce_file_format=True)
    content = bytearray(path.read_bytes())
    for place, value in places:
        content[int(place * (len(content) - 1))] = value
    path.write_bytes(content[: int(cut * len(content))])
    with suppress(ImageError):  # any other error is a fault
        assert all(frame.pixels.dtype == np.uint8 and frame.pixels.ndim == 2 for frame in read_frames(path))
