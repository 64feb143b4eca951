from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK
from numpy.typing import NDArray

from index.series_query import Slice, longest_stack
from model.errors import ImageError
from model.images.inspection import inspect_file
from model.images.reading import read_frames, read_headers
from tests.support.volumes import make_body

ITK: Any = SimpleITK

ENDINGS = (".nii", ".nii.gz", ".nrrd", ".mha")


def write(
    path: Path,
    values: NDArray[Any],
    *,
    spacing: tuple[float, float, float] = (2, 2, 5),
    direction: NDArray[Any] | None = None,
    origin: tuple[float, float, float] = (-30, -40, 100),
) -> Path:
    """Values ``(k, j, i)`` as a volume."""
    image = ITK.GetImageFromArray(values)
    image.SetSpacing(spacing)
    image.SetOrigin(origin)
    if direction is not None:
        image.SetDirection(direction.ravel().tolist())
    ITK.WriteImage(image, str(path))
    return path


def ramp(shape: tuple[int, ...] = (6, 20, 16), dtype: Any = np.int16) -> NDArray[Any]:
    return np.arange(np.prod(shape)).reshape(shape).astype(dtype)


@pytest.mark.parametrize("ending", ENDINGS)
def test_slices_lie_where_simpleitk_says(ending: str, tmp_path: Path) -> None:
    path = write(tmp_path / f"volume{ending}", ramp())
    frames = list(read_frames(path))
    assert [frame.of for frame in frames] == [6] * 6
    assert {frame.pixels.shape for frame in frames} == {(20, 16)}
    assert [frame.header.slice_mm for frame in frames] == [100, 105, 110, 115, 120, 125]
    assert {frame.header.view for frame in frames} == {"axial"}
    assert len({frame.header.series_instance_uid for frame in frames}) == 1
    assert len({frame.identity for frame in frames}) == 6
    assert list(read_headers(path)) == [(frame.number, frame.header) for frame in frames]
    (third,) = read_frames(path, only=3)
    assert (third.identity, third.number) == (frames[2].identity, 3)
    assert np.array_equal(third.pixels, frames[2].pixels)
    assert list(read_frames(path, only=7)) == []


@pytest.mark.parametrize(("axis", "view"), [(0, "sagittal"), (1, "coronal"), (2, "axial")])
def test_the_plane_is_that_of_the_thickest_slices_and_the_head_is_above(axis: int, view: str, tmp_path: Path) -> None:
    # A body whose head end is bright: values grow along the third axis, which points to the head.
    values = np.broadcast_to(np.arange(24, dtype=np.int16)[:, None, None], (24, 24, 24)).copy()
    across, behind, above = (4.0 if number == axis else 1.0 for number in range(3))
    frames = list(read_frames(write(tmp_path / "a.nii.gz", values, spacing=(across, behind, above))))
    assert {frame.header.view for frame in frames} == {view}
    assert len(frames) == 24
    middle = frames[12].pixels.astype(int)
    if view == "axial":
        assert frames[20].pixels.mean() > frames[3].pixels.mean()
    else:
        assert middle[2].mean() > middle[-3].mean()
    steps = np.diff([frame.header.slice_mm or 0 for frame in frames])
    assert steps == pytest.approx([4.0] * 23, abs=1e-3)


def test_whichever_way_the_axes_run_the_pictures_are_the_same(tmp_path: Path) -> None:
    body = make_body(0, 0)
    grid = np.stack(np.meshgrid(*[np.linspace(-90, 90, 24)] * 3, indexing="ij"), -1)[..., ::-1]  # z, y, x
    values = (body.at(grid) * 1000).astype(np.int16)
    spacing, origin = (180 / 23, 180 / 23, 180 / 23), (-90.0, -90.0, -90.0)
    straight = list(read_frames(write(tmp_path / "a.nrrd", values, spacing=spacing, origin=origin)))
    turned_round = write(
        tmp_path / "b.nrrd",
        values[:, ::-1, ::-1],
        spacing=spacing,
        origin=(90.0, 90.0, -90.0),
        direction=np.diag([-1.0, -1.0, 1.0]),
    )
    for one, other in zip(straight, read_frames(turned_round), strict=True):
        assert np.array_equal(one.pixels, other.pixels)
        assert one.header.slice_mm == pytest.approx(other.header.slice_mm, abs=0.01)


def test_oblique_and_points_in_time(tmp_path: Path) -> None:
    angle = np.deg2rad(40)
    turn = np.array([[1, 0, 0], [0, np.cos(angle), -np.sin(angle)], [0, np.sin(angle), np.cos(angle)]])
    assert {f.header.view for f in read_frames(write(tmp_path / "o.mha", ramp(), direction=turn))} == {"oblique"}
    moments = ITK.JoinSeries([ITK.GetImageFromArray(ramp() + moment) for moment in range(3)])
    ITK.WriteImage(moments, str(tmp_path / "t.nii"))
    headers = [Slice("t.nii", number, header) for number, header in read_headers(tmp_path / "t.nii")]
    assert len(headers) == 18
    assert {one.header.stack for one in headers} == {"0", "1", "2"}
    assert len(longest_stack(headers)) == 6


@pytest.mark.parametrize(
    ("values", "said"),
    [
        (ramp() - 1000, "soft tissue, as its values look like Hounsfield units: -160 to 240"),
        (ramp(dtype=np.float32) / 7, "1st to 99th percentile of the volume"),
        (ramp(dtype=np.uint8), "as it is"),
    ],
)
def test_what_is_shown_is_said(values: NDArray[Any], said: str, tmp_path: Path) -> None:
    path = write(tmp_path / "v.nii.gz", values)
    found = inspect_file(path, 2)
    assert said in found.facts["displayed by"]
    assert found.facts["format"] == "NIfTI"
    assert f"6 slices of 16 × 20, {values.dtype}" in found.facts["pixels"]
    assert found.frame.pixels.min() < found.frame.pixels.max() or "soft tissue" in said
    if values.dtype == np.uint8:
        assert np.array_equal(found.frame.pixels, values[1])


def test_not_a_number_is_black_and_nothing_fails(tmp_path: Path) -> None:
    values = ramp(dtype=np.float32)
    values[2] = np.nan
    frames = list(read_frames(write(tmp_path / "n.nii", values)))
    assert frames[2].pixels.max() == 0
    assert frames[4].pixels.max() > 0


def test_what_cannot_be_read_is_named(tmp_path: Path) -> None:
    whole = write(tmp_path / "whole.nii", ramp()).read_bytes()
    (tmp_path / "cut.nii").write_bytes(whole[:600])
    (tmp_path / "cut.nii.gz").write_bytes(gzip.compress(whole)[:-200])
    for name in ("cut.nii", "cut.nii.gz"):
        with pytest.raises(ImageError, match="corrupt or truncated"):
            list(read_frames(tmp_path / name))


BASE = b"NRRD0004\ntype: uchar\ndimension: 3\nsizes: 3 3 3\nencoding: raw\n"
META = b"ObjectType = Image\nNDims = 3\nDimSize = 3 3 3\nElementType = MET_UCHAR\n"


@pytest.mark.parametrize(
    "header",
    [
        BASE + b"data file: %s\n",
        BASE + b"DATA FILE: %s\n",
        BASE + b"datafile:%s\n",
        BASE + b"# " + b"x" * 600 + b"\ndata file: %s\n",
        BASE + b"data file: LIST\n%s\n",
        META + b"ElementDataFile = %s\n",
        META + b"ElementDataFile : %s\n",
        META + b"  elementdatafile = %s\n",
        META + b"ElementDataFile = LIST\n%s\n%s\n%s\n",
        META,
    ],
)
def test_values_of_another_file_are_never_read(header: bytes, tmp_path: Path) -> None:
    """They could be any file of the machine; and two patients' headers may be the same to the last byte."""
    (tmp_path / "elsewhere").mkdir()
    values = tmp_path / "elsewhere" / "DOE^JANE.raw"
    values.write_bytes(bytes(range(27)))
    (tmp_path / "LIST").write_bytes(bytes(27))
    path = tmp_path / "volume"
    path.write_bytes(header.replace(b"%s", bytes(values)))
    with pytest.raises(ImageError, match="its values lie in another file: save it as one file") as raised:
        list(read_frames(path))
    assert "DOE" not in str(raised.value)


def test_nonsense_in_a_header_is_no_place(tmp_path: Path) -> None:
    path = write(tmp_path / "n.nii", ramp())
    content = bytearray(path.read_bytes())
    content[280 + 12 : 280 + 16] = np.float32(np.nan).tobytes()  # srow_x[3]
    content[268:272] = np.float32(np.nan).tobytes()  # qoffset_x
    path.write_bytes(content)
    places = [frame.header.slice_mm for frame in read_frames(path)]
    assert all(place is None or np.isfinite(place) for place in places)
