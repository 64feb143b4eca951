from __future__ import annotations

from io import BytesIO

import pytest
from pydicom.datadict import dictionary_VR
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian, JPEGBaseline8Bit, RLELossless

from model.images import fragments
from model.images.fragments import ITEM, fragments_of
from model.images.pixel_data import pixels_in_memory
from model.images.pixel_module import bits_above, complete, native_length

STREAMS = [b"\xff\xd8\xff" + bytes([number]) * (10 + 2 * number) for number in range(1, 5)]


def frames_of(pixel_data: bytes, count: int) -> list[bytes]:
    file = BytesIO(pixel_data)
    found = fragments.frames_of(list(fragments_of(file)), count, fragments.offset_table(file))
    return [b"".join(pixel_data[one.place : one.place + one.length] for one in frame) for frame in found]


def test_an_empty_fragment_is_a_frame_where_each_has_one() -> None:
    streams = [*STREAMS[:2], b"\0\0", STREAMS[3]]
    items = [ITEM + bytes(4), *(ITEM + len(one).to_bytes(4, "little") + one for one in streams)]
    assert frames_of(b"".join(items), 4) == streams


@pytest.mark.parametrize("has_table", [True, False])
def test_a_frame_of_several_fragments_without_its_beginning_costs_no_other(has_table: bool) -> None:
    whole = bytearray(encapsulate(STREAMS, fragments_per_frame=2, has_bot=has_table))
    place = whole.index(STREAMS[2][:6])
    whole[place : place + 3] = b"\0\0\0"
    found = frames_of(bytes(whole), 4)
    assert [one.rstrip(b"\0") for one in (*found[:2], found[3])] == [STREAMS[0], STREAMS[1], STREAMS[3]]


def test_bytes_of_another_kind_of_stream_begin_nothing() -> None:
    stream = b"\xff\x4f\xff\x51" + b"1" * 12 + b"\xff\x0a" + b"2" * 14
    whole = encapsulate([stream] * 3, fragments_per_frame=2, has_bot=False)
    assert frames_of(whole, 3) == [stream] * 3
    assert frames_of(encapsulate([stream], fragments_per_frame=2, has_bot=False), 1) == [stream]


def test_frames_begin_where_code_streams_begin() -> None:
    whole = encapsulate([stream + b"\0" * (len(stream) % 2) for stream in STREAMS])
    assert [one.rstrip(b"\0") for one in frames_of(whole, 4)] == [one.rstrip(b"\0") for one in STREAMS]
    pieces = encapsulate(STREAMS, fragments_per_frame=2, has_bot=True)
    assert len(list(fragments_of(BytesIO(pieces)))) == 8
    assert [one.rstrip(b"\0") for one in frames_of(pieces, 4)] == [one.rstrip(b"\0") for one in STREAMS]
    padded = encapsulate([*STREAMS, b"\0\0"])
    assert len(frames_of(padded, 4)) == 4
    assert len(frames_of(encapsulate(STREAMS[:3]), 4)) == 3
    assert frames_of(encapsulate(STREAMS), 1)[0].rstrip(b"\0") == STREAMS[0].rstrip(b"\0")
    assert frames_of(whole[:-8], 4) != []
    assert frames_of(b"", 4) == []


def described(**values: object) -> Dataset:
    ds = Dataset()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.set_original_encoding(is_implicit_vr=False, is_little_endian=True, character_encoding="latin-1")
    ds.Rows, ds.Columns, ds.BitsAllocated = 4, 4, 8
    for name, value in values.items():
        ds.add(DataElement(name, "LO" if isinstance(value, str) else dictionary_VR(name), value))
    return ds


@pytest.mark.parametrize(
    ("values", "photometric", "samples"),
    [
        ({}, "MONOCHROME2", 1),
        ({"SamplesPerPixel": 3}, "RGB", 3),
        ({"SamplesPerPixel": 3, "PhotometricInterpretation": "MONOCHROME2"}, "RGB", 3),
        ({"SamplesPerPixel": 1, "PhotometricInterpretation": "YBR_FULL"}, "MONOCHROME2", 1),
        ({"PhotometricInterpretation": "monochrome1"}, "MONOCHROME1", 1),
        ({"PhotometricInterpretation": "YBR FULL"}, "YBR_FULL", 3),
        ({"PhotometricInterpretation": "PALETTE  COLOR "}, "PALETTE COLOR", 1),
    ],
)
def test_what_lacks_is_completed(values: dict[str, object], photometric: str, samples: int) -> None:
    ds = described(**values)
    complete(ds, pixels_in_memory(ds))
    assert (ds.PhotometricInterpretation, ds.SamplesPerPixel) == (photometric, samples)
    assert (ds.BitsStored, ds.PixelRepresentation) == (8, 0)


def test_the_element_decides_whether_pixels_are_compressed() -> None:
    native = described(PixelData=bytes(16))
    native.file_meta.TransferSyntaxUID = JPEGBaseline8Bit
    complete(native, pixels_in_memory(native))
    assert native.file_meta.TransferSyntaxUID == ExplicitVRLittleEndian
    native.file_meta.TransferSyntaxUID = JPEGBaseline8Bit
    native.set_original_encoding(is_implicit_vr=True, is_little_endian=True)
    complete(native, pixels_in_memory(native))
    assert native.file_meta.TransferSyntaxUID == ImplicitVRLittleEndian
    jpeg = b"\xff\xd8\xff\xe0\x00\x04ab\xff\xc0\x00\x0b" + bytes(20)
    rle = (1).to_bytes(4, "little") + (64).to_bytes(4, "little") + bytes(60)
    for stream, syntax in ((jpeg, JPEGBaseline8Bit), (rle, RLELossless)):
        compressed = described(PixelData=encapsulate([stream]))
        complete(compressed, pixels_in_memory(compressed))
        assert compressed.file_meta.TransferSyntaxUID == syntax


def test_bits_above_the_stored_ones() -> None:
    assert bits_above(described(BitsStored=8, HighBit=7)) == 0
    assert bits_above(described(BitsAllocated=16, BitsStored=12, HighBit=15)) == 4
    assert native_length(described(SamplesPerPixel=3, PhotometricInterpretation="YBR_FULL_422"), 2) == 64
