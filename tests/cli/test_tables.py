from __future__ import annotations

from pathlib import Path

import pytest

from cli.rendering.tables import shown_address
from index.answers.words import stored_address
from index.schema import Location


def test_addresses_are_shown_as_they_can_be_typed_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert shown_address(f"{tmp_path}/scans/1.dcm") == "scans/1.dcm"
    assert shown_address("/elsewhere/1.dcm") == "/elsewhere/1.dcm"
    assert shown_address("s3://bucket/1.dcm") == "s3://bucket/1.dcm"


def test_addresses_of_stored_files() -> None:
    roots = ("/data/a", "zip://::/data/b.zip", "/data/one.dcm")
    addresses = [stored_address(roots, Location(number, path)) for number, path in enumerate(("x/1", "y/2", ""))]
    assert addresses == ["/data/a/x/1", "zip://y/2::/data/b.zip", "/data/one.dcm"]
