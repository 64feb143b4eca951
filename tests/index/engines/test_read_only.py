from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from index.address import parse_address
from index.engines.read_only import PrivateCopy, is_read_only
from index.ledger import FileKey, FileRecord, Ledger
from index.opening import create_index, open_index
from model.errors import IndexLockedError, VectorIndexError
from tests.index.conftest import describe, make_points


@pytest.fixture
def index(tmp_path: Path) -> Iterator[Path]:
    """An index that is mounted read-only."""
    made, mounted = tmp_path / "made", tmp_path / "mounted"
    mounted.mkdir()
    with create_index(parse_address(made / "index"), describe(), purpose="test") as opened:
        opened.upsert(make_points(30))
    with closing(Ledger(made / "index")) as ledger:
        ledger.put([FileRecord(FileKey(0, "", str(n)), 1, 1, "indexed", None, ()) for n in range(30)])
    if subprocess.run(["mount", "--bind", made, mounted], check=False, capture_output=True).returncode:
        pytest.skip("needs the right to mount a folder read-only")
    subprocess.run(["mount", "-o", "remount,ro,bind", mounted], check=True)
    yield mounted / "index"
    subprocess.run(["umount", mounted], check=True)


def test_what_cannot_be_written_can_be_searched(index: Path, cbmir: Callable[..., int]) -> None:
    assert is_read_only(index)
    before = set(Path(tempfile.gettempdir()).glob("cbmir-read-only-*"))
    point = make_points(30)[7]
    with open_index(parse_address(index), purpose="test", only_reads=True) as opened:
        assert opened.count() == 30
        assert opened.nearest(point.vectors["fcl1"], "fcl1", top=1, exact=True)[0].id == point.id
        with open_index(parse_address(index), purpose="test", only_reads=True) as another:
            assert another.count() == 30
    assert set(Path(tempfile.gettempdir()).glob("cbmir-read-only-*")) == before
    assert cbmir("status", "--index", index) == 0
    with pytest.raises(VectorIndexError, match=r"cannot be written .* only searched"):
        open_index(parse_address(index), purpose="test")
    with pytest.raises(VectorIndexError, match="cannot be written, only searched"):
        create_index(parse_address(index), describe(), purpose="test")


def test_a_writer_is_not_read_behind_its_back(index: Path, tmp_path: Path) -> None:
    with open_index(parse_address(tmp_path / "made" / "index"), purpose="cbmir index"), pytest.raises(IndexLockedError):
        PrivateCopy(index)
