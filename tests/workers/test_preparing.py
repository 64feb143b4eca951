from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import pytest

from index.interface import Index
from index.opening import create_index, open_index
from tests.conftest import small_job
from tests.index.conftest import describe
from tests.index.wire import StandIn
from workers.archives import Archive
from workers.discovery import Root
from workers.planning import Plan
from workers.preparing import pending_files, register_roots


def test_jobs_that_add_archives_to_a_server_at_the_same_moment_get_numbers_of_their_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CBMIR_STATE", str(tmp_path))
    server = StandIn()
    address = f"http://127.0.0.1:6333/scans?grpc_port={server.port}"
    names = [f"/archive/{number}" for number in range(4)]
    indexes = [create_index(address, describe(roots=()), purpose="test") for _ in names]
    barrier = Barrier(len(names))

    def register(index: Index, name: str) -> int:
        barrier.wait()
        [root] = register_roots(index, [Archive(name)], "/model")
        return root.number

    with ThreadPoolExecutor() as pool:
        numbers = list(pool.map(register, indexes, names))
    with open_index(address, purpose="test") as index:
        assert [index.description.roots[number] for number in numbers] == names
    for index in indexes:
        index.close()
    server.stop()


def test_only_a_list_may_name_what_is_not_there(tmp_path: Path) -> None:
    gone, plan = tmp_path / "gone", Plan()
    settings = small_job((gone,), tmp_path / "model", tmp_path / "index")
    roots = [Root(0, str(gone)), Root(1, f"zip://::{gone}.zip"), Root(2, str(gone), members=("1", "2"))]
    assert list(pending_files(settings, roots, None, plan)) == []
    assert plan.unreadable == {str(gone / name): "No such file or directory" for name in ("1", "2")}
