from __future__ import annotations

from collections import Counter
from pathlib import Path

from model.errors import ImageError, Reason
from model.reading import read_frames


def test_every_real_file_is_read_or_left_out_by_name(shared_data: Path) -> None:
    """208 DICOM files of other software's tests, many of them there because they broke something."""
    read, left_out = {}, Counter[Reason | None]()
    files = sorted(path for path in (shared_data / "dicom").rglob("*") if path.is_file() and path.suffix != ".csv")
    assert len(files) == 208
    for path in files:
        try:
            read[str(path.relative_to(shared_data / "dicom"))] = [frame.pixels.shape for frame in read_frames(path)]
        except ImageError as error:
            left_out[error.reason if error.detail else None] += 1
    assert len(read) >= 141
    assert left_out[Reason.NO_PIXEL_DATA] + left_out[Reason.NOT_A_PICTURE] == 57
    assert left_out[Reason.NOT_AN_IMAGE] == left_out[None] == 0
    assert len(read["dwv/multiframe-test1.dcm"]) == 16
    assert read["dwv/gdcm-CR-MONO1-10-chest.dcm"] == [(440, 440)]
