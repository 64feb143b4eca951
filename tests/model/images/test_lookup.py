from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset

from model.images.elements import number, numbers, text, words
from model.images.lookup import read_table

TABLE = np.arange(256) * 257


def table(vr: str, descriptor: list[int], entries: bytes | list[int], *, descriptor_vr: str = "US") -> Dataset:
    ds = Dataset()
    ds.set_original_encoding(is_implicit_vr=False, is_little_endian=True, character_encoding="latin-1")
    ds.add(DataElement(0x00283002, descriptor_vr, descriptor))
    ds.add(DataElement(0x00283006, vr, entries))
    return ds


@pytest.mark.parametrize(
    ("vr", "bits", "entries", "expected", "needed"),
    [
        ("OW", 16, TABLE.astype("<u2").tobytes(), TABLE, 16),
        ("US", 16, TABLE.tolist(), TABLE, 16),
        ("OW", 8, np.arange(256).astype("u1").tobytes(), np.arange(256), 8),  # two in a word
        ("OW", 8, np.arange(256).astype("<u2").tobytes(), np.arange(256), 8),  # one in a word
        ("US", 8, (np.arange(256) * 16).tolist(), np.arange(256) * 16, 12),  # wider than it says
        ("US", 16, (np.arange(256) * 16).tolist(), np.arange(256) * 16, 12),  # narrower
    ],
)
def test_entries_are_read_as_they_lie(
    vr: str, bits: int, entries: bytes | list[int], expected: np.ndarray, needed: int
) -> None:
    found = read_table(table(vr, [256, 0, bits], entries), "LUTDescriptor", "LUTData")
    assert found
    assert np.array_equal(found.entries, expected)
    assert found.bits == needed
    assert found.apply(np.array([-5, 0, 255, 900])).tolist() == [expected[n] for n in (0, 0, 255, 255)]


@pytest.mark.parametrize(("vr", "first"), [("US", 64512), ("SS", -1024)])
def test_the_first_value_has_the_sign_of_what_is_looked_up(vr: str, first: int) -> None:
    descriptor = [256, first, 16] if vr == "US" else [256, -1024, 16]
    found = read_table(table("US", descriptor, TABLE.tolist(), descriptor_vr=vr), "LUTDescriptor", "LUTData")
    assert found
    assert found.apply(np.array([-1024, -1023, -769])).tolist() == [0, 257, 255 * 257]
    assert found.apply(np.array([64512, 64513], np.uint16)).tolist() == [0, 257]


def test_a_table_that_is_not_whole_is_none() -> None:
    assert read_table(table("US", [4096, 0, 16], TABLE.tolist()), "LUTDescriptor", "LUTData") is None
    assert read_table(Dataset(), "LUTDescriptor", "LUTData") is None


@given(st.text(max_size=30))
def test_no_text_costs_a_picture(written: str) -> None:
    ds = Dataset()
    ds.set_original_encoding(is_implicit_vr=False, is_little_endian=True, character_encoding="utf-8")
    ds.add(DataElement(0x00281050, "LO", written))
    assert all(np.isfinite(numbers(ds, "WindowCenter")))
    assert text(ds, "WindowCenter") == text(ds, "WindowCenter").upper()
    assert number(Dataset(), "WindowCenter") is None
    assert len(words(Dataset(), "LUTData")) == 0
