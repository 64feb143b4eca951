"""Addresses in a PACS."""

from __future__ import annotations

import pytest

from model.errors import SettingError
from model.pacs.address import PacsAddress, is_pacs, parse_pacs, series_path


def test_a_service_and_what_is_in_it() -> None:
    root = "dicomweb+https://pacs.hospital:8443/a/dicom-web"
    assert parse_pacs(root) == PacsAddress("dicomweb+https", "pacs.hospital:8443/a/dicom-web")
    assert parse_pacs(f"{root}/").url == "https://pacs.hospital:8443/a/dicom-web"
    found = parse_pacs(f"{root}/{series_path('1.2', 'OWN-1')}/1.4")
    assert (found.study, found.series, found.instance, found.root) == ("1.2", "OWN-1", "1.4", root)
    assert parse_pacs(f"{root}/studies").study == ""


def test_an_application_entity() -> None:
    assert parse_pacs("dimse://ORTHANC@127.0.0.1:4242/studies/1.2").entity == ("ORTHANC", "127.0.0.1", 4242)
    assert parse_pacs("dimse+tls://A B@[0:0:0:0:0:0:0:1]:2762").entity == ("A B", "0:0:0:0:0:0:0:1", 2762)


@pytest.mark.parametrize(
    "address", ["https://pacs/x", "dimse://host:104", "dimse://AET@host", "dicomweb://x", "x", "dimse://AET@[::1]:104"]
)
def test_what_is_no_address_of_a_pacs_is_said(address: str) -> None:
    with pytest.raises(SettingError, match="write"):
        parse_pacs(address)
    assert is_pacs(address) == address.startswith("dimse://")
