from __future__ import annotations

from io import BytesIO

import pytest
from pydicom.datadict import dictionary_VR
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian, JPEGBaseline8Bit, RLELossless

from model.images import fragments
from model.images.fragments import fragments_of
from model.images.pixel_data import pixels_in_memory
from model.images.pixel_module import bits_above, complete, native_length

STREAMS = [b"\xff\xd8\xff" + bytes([number]) * (10 + 2 * number) for number in range(1, 5)]


def test_frames_begin_where_code_streams_begin() -> None:
    def frames_of(pixel_data: bytes, count: int) -> list[bytes]:
        found = fragments.frames_of(list(fragments_of(BytesIO(pixel_data))), count)
        return [b"".join(pixel_data[one.place : one.place + one.length] for one in frame) for frame in found]

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
