"""Small inputs that failed once, each with the right picture beside it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from model.errors import ImageError, Reason
from model.images.inspection import inspect_file
from model.images.reading import read_frames


def test_every_case_is_shown_rightly(shared_data: Path) -> None:
    cases = [path for path in (shared_data.parent / "cases").glob("*/*") if Path(f"{path}.expected.png").exists()]
    assert cases
    for case in sorted(cases):
        expected = np.asarray(Image.open(f"{case}.expected.png")).astype(int)
        first = next(read_frames(case)).pixels.astype(int)
        assert np.abs(first - expected).mean() <= 3, case
        assert np.array_equal(inspect_file(case).frame.pixels, first), case  # an inspection shows the same


def test_every_frame_of_a_case_is_there(shared_data: Path) -> None:
    cases = shared_data.parent / "cases"
    for name, frames in (
        ("dicom-more-pixels-than-frames/padding_of_a_frame.dcm", 1),
        ("dicom-more-pixels-than-frames/six_fragments_four_frames.dcm", 4),
        ("dicom-offset-table-wrong/offsets_one_entry.dcm", 4),
        ("dicom-offset-table-wrong/offsets_plus_8.dcm", 4),
    ):
        found = list(read_frames(cases / name))
        assert [frame.number for frame in found] == list(range(1, frames + 1)), name
        for frame in found:
            assert np.array_equal(inspect_file(cases / name, frame.number).frame.pixels, frame.pixels), name


def test_what_is_no_picture_says_so_truly(shared_data: Path) -> None:
    five = shared_data.parent / "cases" / "picture-unsupported-called-corrupt" / "five_channels.tif"
    with pytest.raises(ImageError, match="5 samples a pixel") as caught:
        next(read_frames(five))
    assert caught.value.reason is Reason.UNSUPPORTED
