from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from index.address import parse_address
from index.ledger import NAME, FileKey, Ledger
from index.opening import create_index
from index.schema import Location, Payload, Stamp
from index.upkeep.rebuilding import rebuild_ledger
from tests.index.conftest import describe, make_points
from tests.support.jobs import small_job
from workers.indexing.job import index_archive


@pytest.mark.usefixtures("without_ray")
def test_a_lost_ledger_is_made_again_from_the_points(archive: Path, model_path: Path, tmp_path: Path) -> None:
    copied, index = tmp_path / "archive", tmp_path / "index"
    shutil.copytree(archive, copied)
    shutil.copy2(next((copied / "eye").iterdir()), copied / "eye" / "the same picture.dcm")
    settings = small_job((copied,), model_path, index, labels="folder")
    first = index_archive(settings)
    before = Ledger(index, read_only=True)
    rows = {row for row in before.rows() if row[5] == "indexed"}
    before.close()
    for path in index.glob(f"{NAME}*"):
        path.unlink()
    second = index_archive(settings)
    assert (second.files_rebuilt, second.files_unchanged) == (first.files_indexed, first.files_indexed)
    assert (second.files_indexed, second.points, second.files_left_out) == (0, 0, first.files_left_out)
    again = Ledger(index, read_only=True)
    found = {row for row in again.rows() if row[5] == "indexed"}
    again.close()
    assert {(*row[:7], *row[8:]) for row in found} == {(*row[:7], *row[8:]) for row in rows}
    assert index_archive(settings).files_rebuilt == 0


def test_what_is_not_whole_or_of_an_old_version_is_read_again(tmp_path: Path) -> None:
    with create_index(parse_address(tmp_path / "index"), describe(), purpose="test") as index:
        points = make_points(4)
        stamps = [Stamp(10, 20, 2), Stamp(10, 20, 2), Stamp(11, 21, 2), None]
        names = ["whole", "whole", "half", "old"]
        for point, name, stamp in zip(points, names, stamps, strict=True):
            index.upsert([replace(point, payload=replace(point.payload, locations=(Location(0, name, stamp),)))])
        ledger = Ledger(tmp_path / "index")
        rebuilt = rebuild_ledger(index, ledger)
        assert (rebuilt.files, rebuilt.files_again) == (3, 2)
        known = ledger.directory(0, "")
        assert {name: one.state for name, one in known.items()} == {
            "whole": "indexed",
            "half": "writing",
            "old": "indexed",
        }
        assert known["whole"].stamp == (10, 20)
        assert known["old"].size < 0  # so that the next job takes it for changed
        assert set(ledger.points([FileKey(0, "", "whole")]).popitem()[1]) == {points[0].id, points[1].id}
        assert rebuild_ledger(index, ledger).files == 0  # what is known stays as it is
        ledger.close()


def test_a_file_that_was_half_replaced_is_read_again(tmp_path: Path) -> None:
    with create_index(parse_address(tmp_path / "index"), describe(), purpose="test") as index:
        stamps = [Stamp(10, 20, 3)] * 3 + [Stamp(11, 21, 3)]
        for point, stamp in zip(make_points(4), stamps, strict=True):
            index.upsert([replace(point, payload=replace(point.payload, locations=(Location(0, "a", stamp),)))])
        ledger = Ledger(tmp_path / "index")
        assert rebuild_ledger(index, ledger).files_again == 1
        assert len(ledger.points([FileKey(0, "", "a")]).popitem()[1]) == 4  # so that the former ones are dropped
        ledger.close()


def test_a_stamp_comes_back_and_makes_no_two_locations_of_one() -> None:
    stamped, plain = Location(1, "a/b", Stamp(5, 1_790_000_000_123_456_789, 3)), Location(1, "a/b")
    assert stamped == plain
    assert len({stamped, plain}) == 1
    both = replace(make_points(1)[0].payload, locations=(stamped, Location(2, "c")))
    again = Payload.from_dict(both.to_dict())
    assert [one.stamp for one in again.locations] == [stamped.stamp, None]
