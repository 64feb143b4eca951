from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import ExplicitVRLittleEndian

from model.images.display import scale_to_range, show
from model.images.frames import GreyImage


def dataset(**attributes: object) -> Dataset:
    ds = Dataset()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.set_original_encoding(is_implicit_vr=False, is_little_endian=True)
    ds.PhotometricInterpretation, ds.BitsStored, ds.PixelRepresentation = "MONOCHROME2", 12, 0
    for name, value in attributes.items():
        setattr(ds, name, value)
    return ds


def grey(*arguments: Any) -> GreyImage:
    return show(*arguments).grey


VALUES = np.array([[0, 1000, 2000, 3000]], dtype=np.uint16)


def test_without_window_the_range_counts() -> None:
    assert grey(VALUES, dataset(), 0).tolist() == [[0, 85, 170, 255]]


def test_window_is_linear_after_the_standard() -> None:
    # PS3.3 C.11.2.1.2.1: centre 2048, width 4096 maps 0…4095 to black…white.
    ds = dataset(WindowCenter="2048", WindowWidth="4096")
    assert grey(np.array([[0, 4095, 2048]], dtype=np.uint16), ds, 0).tolist() == [[0, 255, 128]]


def test_rescale_stands_before_the_window() -> None:
    ds = dataset(RescaleSlope="2", RescaleIntercept="-1000", WindowCenter=["1000", "7"], WindowWidth=["4001", "7"])
    assert grey(VALUES, ds, 0).tolist() == [[0, 128, 255, 255]]


def test_monochrome1_is_inverted() -> None:
    assert grey(VALUES, dataset(PhotometricInterpretation="MONOCHROME1"), 0).tolist() == [[255, 170, 85, 0]]


def test_padding_is_black_and_does_not_count() -> None:
    values = np.array([[-2000, 0, 50, 100]], dtype=np.int16)
    ds = dataset(PixelPaddingValue=-2000, PixelRepresentation=1)
    assert grey(values, ds, 0).tolist() == [[0, 0, 128, 255]]
    ds.PhotometricInterpretation = "MONOCHROME1"
    assert grey(values, ds, 0)[0, 0] == 0


@pytest.mark.parametrize(("function", "middle"), [("SIGMOID", 128), ("LINEAR_EXACT", 128)])
def test_other_window_functions(function: str, middle: int) -> None:
    ds = dataset(WindowCenter="1000", WindowWidth="400", VOILUTFunction=function)
    low, centre, high = grey(np.array([[0, 1000, 2000]], dtype=np.uint16), ds, 0)[0].tolist()
    assert (low, centre, high) == (0, middle, 255)


def test_a_voi_table_stands_before_the_window() -> None:
    table = Dataset()
    table.LUTDescriptor, table.LUTData = [4, 0, 8], [0, 10, 200, 255]
    ds = dataset(VOILUTSequence=Sequence([table]), WindowCenter="1", WindowWidth="2")
    ds["VOILUTSequence"].value[0]["LUTDescriptor"].VR = "US"
    assert grey(np.array([[0, 1, 2, 3]], dtype=np.uint16), ds, 0).tolist() == [[0, 10, 200, 255]]


def test_empty_attributes_are_as_absent() -> None:
    ds = dataset(WindowCenter=None, WindowWidth=None, RescaleSlope=None, RescaleIntercept=None)
    ds.ModalityLUTSequence = Sequence([Dataset()])
    ds.VOILUTSequence = Sequence([Dataset()])
    assert grey(VALUES, ds, 0).tolist() == [[0, 85, 170, 255]]


def test_every_frame_of_an_enhanced_object_has_its_own_window() -> None:
    def group(centre: str) -> Dataset:
        voi, outer = Dataset(), Dataset()
        voi.WindowCenter, voi.WindowWidth = centre, "2"
        outer.FrameVOILUTSequence = Sequence([voi])
        return outer

    ds = dataset(PerFrameFunctionalGroupsSequence=Sequence([group("500"), group("2500")]))
    assert grey(VALUES, ds, 0).tolist() == [[0, 255, 255, 255]]
    assert grey(VALUES, ds, 1).tolist() == [[0, 0, 0, 255]]


def test_colour_becomes_luma() -> None:
    colour = np.array([[[255, 0, 0], [0, 255, 0], [0, 0, 255], [255, 255, 255]]], dtype=np.uint8)
    assert grey(colour, dataset(PhotometricInterpretation="RGB"), 0).tolist() == [[76, 150, 29, 255]]


def test_constant_and_non_finite_values_are_shown_black() -> None:
    assert scale_to_range(np.full((2, 2), 7)).tolist() == [[0, 0], [0, 0]]
    assert scale_to_range(np.array([[np.nan, 0.0, 1.0, np.inf]])).tolist() == [[0, 0, 1, 1]]
    assert scale_to_range(np.array([[np.nan]])).tolist() == [[0]]


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("bits", [8, 16])
def test_palettes_of_both_byte_orders(order: str, bits: int) -> None:
    ds = dataset(PhotometricInterpretation="PALETTE COLOR", BitsAllocated=8)
    ds.set_original_encoding(is_implicit_vr=False, is_little_endian=order == "<")
    entries = np.arange(256) * (257 if bits == 16 else 1)
    for name in ("Red", "Green", "Blue"):
        setattr(ds, f"{name}PaletteColorLookupTableDescriptor", [256, 0, 16])
        setattr(ds, f"{name}PaletteColorLookupTableData", entries.astype(f"{order}u2").tobytes())
    assert grey(np.array([[0, 100, 255]], np.uint8), ds, 0).tolist() == [[0, 100, 255]]
    assert ds.RedPaletteColorLookupTableData == entries.astype(f"{order}u2").tobytes()


def test_windows_far_from_zero_are_exact() -> None:
    values = np.array([[2**30, 2**30 + 50, 2**30 + 100]], np.uint32)
    shown = grey(values, dataset(WindowCenter=2**30 + 50, WindowWidth=100, VOILUTFunction="LINEAR_EXACT"), 0)
    assert shown.tolist() == [[0, 128, 255]]
    assert grey(values, dataset(), 0).tolist() == [[0, 128, 255]]
