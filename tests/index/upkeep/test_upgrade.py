from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from uuid import UUID

import pytest

from index.address import parse_address
from index.opening import open_index
from index.schema import Payload
from index.upkeep.upgrade import PLACED, upgrade_index
from model.errors import SettingError
from tests.support.jobs import small_job
from tests.support.volumes import make_body, write_series
from workers.indexing.job import index_archive
from workers.indexing.settings import Privacy

pytestmark = pytest.mark.usefixtures("without_ray")


def payloads(folder: Path) -> dict[UUID, Payload]:
    with open_index(parse_address(folder), purpose="test") as index:
        return dict(index.scroll())


def as_of_earlier(folder: Path) -> None:
    """Take away what version 0.1 did not store."""
    with open_index(parse_address(folder), purpose="test") as index:
        for point, payload in list(index.scroll()):
            header = replace(payload.header, **dict.fromkeys(PLACED))
            index.set_payload(point, replace(payload, header=header))


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    folder = tmp_path / "archive"
    write_series(folder / "a", make_body(0, 0), "a", slices=6, side=16)
    write_series(folder / "b", make_body(0, 1), "b", slices=5, side=16, plane="sagittal", enhanced=True)
    return folder


def test_an_index_of_an_earlier_version_learns_where_its_slices_lie(
    archive: Path, model_path: Path, tmp_path: Path
) -> None:
    index = tmp_path / "index"
    index_archive(small_job((archive,), model_path, index))
    expected = payloads(index)
    assert {payload.header.view for payload in expected.values()} == {"axial", "sagittal"}
    as_of_earlier(index)
    assert payloads(index) != expected
    told: list[tuple[int, int]] = []
    done = upgrade_index(parse_address(index), progress=lambda *step: told.append(step))
    assert (done.points, done.files, done.left_out) == (11, 7, 0)
    assert told == [(7, 7)]
    assert payloads(index) == expected
    again = upgrade_index(parse_address(index))
    assert (again.points, again.files) == (0, 0)


def test_what_is_gone_is_named_and_the_rest_is_done(archive: Path, model_path: Path, tmp_path: Path) -> None:
    index = tmp_path / "index"
    index_archive(small_job((archive,), model_path, index))
    as_of_earlier(index)
    next((archive / "a").iterdir()).unlink()
    named: list[str] = []
    done = upgrade_index(parse_address(index), left_out=named.append)
    assert (done.points, done.left_out, len(named)) == (10, 1, 1)


def test_a_file_that_holds_another_picture_now_says_nothing_of_the_old_one(
    archive: Path, model_path: Path, tmp_path: Path
) -> None:
    index = tmp_path / "index"
    index_archive(small_job((archive / "a",), model_path, index))
    as_of_earlier(index)
    write_series(tmp_path / "other", make_body(1, 0), "other", slices=6, side=16, plane="coronal")
    first, other = min((archive / "a").iterdir()), min((tmp_path / "other").iterdir())
    first.write_bytes(other.read_bytes())
    named: list[str] = []
    done = upgrade_index(parse_address(index), left_out=named.append)
    assert (done.points, done.left_out) == (5, 1)
    assert "holds another picture" in named[0]
    assert "coronal" not in {payload.header.view for payload in payloads(index).values()}


def test_without_a_ledger_it_is_made_again(archive: Path, model_path: Path, tmp_path: Path) -> None:
    index = tmp_path / "index"
    index_archive(small_job((archive,), model_path, index))
    as_of_earlier(index)
    for file in index.glob("ledger.sqlite*"):
        file.unlink()
    assert upgrade_index(parse_address(index)).points == 11


def test_an_index_that_hides_its_paths_is_refused(archive: Path, model_path: Path, tmp_path: Path) -> None:
    index_archive(small_job((archive,), model_path, tmp_path / "index", privacy=Privacy("hash")))
    with pytest.raises(SettingError, match="hides the paths"):
        upgrade_index(parse_address(tmp_path / "index"))
