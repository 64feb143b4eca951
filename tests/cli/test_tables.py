from __future__ import annotations

from cli.rendering.tables import common_folder, stored_address
from index.schema import Location


def test_paths_are_shown_below_what_holds_all_archives() -> None:
    assert common_folder(("/data/a", "/data/b/c")) == "/data"
    assert common_folder(("/data/a",)) == "/data/a"
    assert common_folder(("/data/a", "s3://bucket")) == ""


def test_addresses_of_stored_files() -> None:
    roots = ("/data/a", "zip://::/data/b.zip", "/data/one.dcm")
    addresses = [stored_address(roots, Location(number, path)) for number, path in enumerate(("x/1", "y/2", ""))]
    assert addresses == ["/data/a/x/1", "zip://y/2::/data/b.zip", "/data/one.dcm"]
