from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from index.address import Address, parse_address
from index.home.key import privacy_key
from index.home.unfinished import MARKER, refuse_unfinished_copy
from index.ledger import FileKey, FileRecord, Ledger
from index.opening import create_index, open_index
from index.upkeep import copy as copying
from index.upkeep.copy import copy_index
from model.errors import SettingError, VectorIndexError
from tests.index.conftest import describe, make_points

KEY = FileKey(0, "a", "b.dcm")


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """An index of 1,500 points of two layers, with a ledger and a privacy key."""
    folder = tmp_path / "source"
    with create_index(parse_address(folder), describe(layers=("fcl1", "fcl2")), purpose="test") as index:
        points = make_points(1500, layers=("fcl1", "fcl2"))
        index.upsert(points)
    ledger = Ledger(folder)
    ledger.put([FileRecord(KEY, 1, 2, "indexed", None, (points[0].id,))])
    ledger.close()
    privacy_key(folder, create=True)
    return folder


def same(source: Path, target: Path) -> bool:
    with (
        open_index(parse_address(source), purpose="test") as ours,
        open_index(parse_address(target), purpose="test") as theirs,
    ):
        return list(ours.scroll()) == list(theirs.scroll()) and ours.description == theirs.description


def test_a_copy_is_the_whole_index_with_its_ledger_and_key(source: Path, tmp_path: Path) -> None:
    told: list[tuple[str, int, int]] = []
    result = copy_index(
        parse_address(source), parse_address(tmp_path / "target"), progress=lambda *step: told.append(step)
    )
    assert (result.points, result.moved) == (1500, 1500)
    assert result.vectors_compared >= 2 * 1000
    assert same(source, tmp_path / "target")
    ledger = Ledger(tmp_path / "target", read_only=True)
    assert ledger.points([KEY]) == {KEY: (make_points(1)[0].id,)}
    ledger.close()
    assert privacy_key(tmp_path / "target") == privacy_key(source)
    assert (tmp_path / "target/privacy.key").stat().st_mode & 0o077 == 0
    assert {stage for stage, _, _ in told} == {"copying", "building the vector index", "verifying"}
    assert not (tmp_path / "target" / MARKER).exists()
    with pytest.raises(SettingError, match="holds 1,500 points already"):
        copy_index(parse_address(source), parse_address(tmp_path / "target"))


def test_an_interrupted_copy_goes_on_where_it_was(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "target"

    def stop(_stage: str, done: int, _total: int) -> None:
        if done >= 1000:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        copy_index(parse_address(source), parse_address(target), progress=stop)
    with pytest.raises(VectorIndexError, match=f"unfinished copy of {source}: run the same command again"):
        refuse_unfinished_copy(target)
    with pytest.raises(VectorIndexError, match="unfinished copy"):
        open_index(parse_address(target), purpose="cbmir search")
    with create_index(parse_address(tmp_path / "other"), describe(layers=("fcl1", "fcl2")), purpose="test"):
        pass
    with pytest.raises(SettingError, match="holds an unfinished copy of"):
        copy_index(parse_address(tmp_path / "other"), parse_address(target))
    result = copy_index(parse_address(source), parse_address(target))
    assert 0 < result.moved < 1500
    assert same(source, target)
    refuse_unfinished_copy(target)


def test_a_copy_that_differs_is_not_called_complete(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def batches(points: object) -> object:
        for number, batch in enumerate(_batches(points)):  # type: ignore[arg-type] # handed on
            yield batch if number else [replace(batch[0], payload=make_points(2)[1].payload), *batch[1:]]

    _batches = copying._batches
    monkeypatch.setattr(copying, "_batches", batches)
    with pytest.raises(VectorIndexError, match="differs from its source at point"):
        copy_index(parse_address(source), parse_address(tmp_path / "target"))
    assert json.loads((tmp_path / "target" / MARKER).read_text())["source"] == str(source)


def test_an_index_is_not_copied_onto_itself(source: Path) -> None:
    with pytest.raises(SettingError, match="onto itself"):
        copy_index(parse_address(source), parse_address(source))


def test_there_and_back_between_the_engines(source: Path, tmp_path: Path, server_address: Address) -> None:
    assert copy_index(parse_address(source), server_address).points == 1500
    assert copy_index(server_address, parse_address(tmp_path / "back")).points == 1500
    assert same(source, tmp_path / "back")
