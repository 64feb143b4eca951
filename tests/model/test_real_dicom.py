from __future__ import annotations

from collections import Counter
from pathlib import Path

from model.errors import ImageError, Reason
from model.reading import read_frames


def test_every_real_file_is_read_or_left_out_by_name(shared_data: Path) -> None:
    """208 DICOM files of other software's tests, many of them there because they broke something."""
    read, left_out = {}, Counter[Reason]()
    files = sorted(path for path in (shared_data / "dicom").rglob("*") if path.is_file() and path.suffix != ".csv")
    assert len(files) == 208
    for path in files:
        try:
            read[path.name] = [frame.pixels.shape for frame in read_frames(path)]
        except ImageError as error:
            assert error.detail
            left_out[error.reason] += 1
    assert len(read) >= 141
    assert left_out[Reason.NO_PIXEL_DATA] + left_out[Reason.NOT_A_PICTURE] == 57
    assert left_out[Reason.NOT_AN_IMAGE] == 0
    assert len(read["multiframe-test1.dcm"]) == 16
    assert read["gdcm-CR-MONO1-10-chest.dcm"] == [(440, 440)]
