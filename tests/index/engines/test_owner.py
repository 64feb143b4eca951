"""An embedded index that another process asks for, while this one writes to it."""

from __future__ import annotations

import json
import socket
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
import pytest

from index.address import parse_address
from index.engines import owner
from index.engines.engine import Index, Searchable, Where
from index.engines.owner import AskedIndex
from index.home.lock import holder
from index.opening import create_index, open_index, open_to_search
from index.upkeep.backup import back_up
from model.errors import IndexLockedError, VectorIndexError
from tests.index.conftest import describe, make_points
from tests.support.jobs import small_job
from workers.indexing.job import index_archive
from workers.indexing.settings import JobObserver, Progress

LAYERS = ("fcl1", "fcl2")


@pytest.fixture
def writer(tmp_path: Path) -> Iterator[Index]:
    """An index of 1,500 points, open to be written."""
    with create_index(parse_address(tmp_path / "index"), describe(layers=LAYERS), purpose="writing") as opened:
        opened.upsert(make_points(1500, layers=LAYERS))
        yield opened


@pytest.fixture
def asked(writer: Index, tmp_path: Path) -> Iterator[Searchable]:
    with open_to_search(parse_address(tmp_path / "index"), purpose="test") as opened:
        assert isinstance(opened, AskedIndex)
        yield opened


def test_it_answers_as_the_engine_does(writer: Index, asked: Searchable) -> None:
    points = make_points(1500, layers=LAYERS)
    query = points[3].vectors["fcl1"].astype(np.float32)
    where = Where({"organ": ["brain", "knee"]}, {"modality": ["MR"]}, [points[6].id])
    assert asked.description == writer.description
    assert "'writing' (process" in str(asked.asked)
    for exact in (True, False):
        assert asked.nearest(query, "fcl1", top=7, where=where, exact=exact) == writer.nearest(
            query, "fcl1", top=7, where=where, exact=exact
        )
    assert asked.rank(query, "fcl2", top=50) == writer.rank(query, "fcl2", top=50)
    both = dict.fromkeys(LAYERS, query)
    assert asked.fused(both, top=5, where=where) == writer.fused(both, top=5, where=where)
    assert list(asked.scroll()) == list(writer.scroll())  # two pages
    assert list(asked.scroll(where)) == list(writer.scroll(where))
    ids = [points[0].id, uuid4()]
    assert asked.retrieve(ids) == writer.retrieve(ids)
    assert np.array_equal(asked.vector(points[9].id, "fcl2"), writer.vector(points[9].id, "fcl2"))
    assert (asked.count(where), asked.facet("organ")) == (writer.count(where), writer.facet("organ"))
    assert asked.statistics() == writer.statistics()
    with pytest.raises(VectorIndexError, match="holds no point"):
        asked.vector(uuid4(), "fcl1")


def test_what_is_written_is_found_at_once(writer: Index, asked: Searchable) -> None:
    writer.upsert(make_points(4, seed=1, layers=LAYERS))
    assert asked.count() == 1504
    failed: list[BaseException] = []

    def ask() -> None:
        try:
            for _ in range(20):
                assert len(asked.nearest(make_points(1)[0].vectors["fcl1"], "fcl1", top=5)) == 5
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for seed in range(2, 8):
        writer.upsert(make_points(50, seed=seed, layers=LAYERS))
    for thread in threads:
        thread.join()
    assert not failed
    assert asked.count() == 1804


def test_nobody_else_writes_or_copies_it(writer: Index, tmp_path: Path) -> None:
    for only_reads in (True, False):
        with pytest.raises(IndexLockedError, match="is in use by 'writing'"):
            open_index(parse_address(tmp_path / "index"), purpose="test", wait=0.1, only_reads=only_reads)
    with pytest.raises(IndexLockedError):
        back_up(parse_address(tmp_path / "index"), tmp_path / "backup.tar")


def test_when_the_writer_has_ended_the_folder_is_opened(tmp_path: Path) -> None:
    address = parse_address(tmp_path / "index")
    with create_index(address, describe(), purpose="writing") as index:
        index.upsert(make_points(5))
        there = holder(tmp_path / "index")
        assert there
        path = Path(there.socket)
        assert path.parent.stat().st_mode & 0o077 == 0  # nobody else's
    assert not path.parent.exists()
    with open_to_search(address, purpose="test") as opened:
        assert not isinstance(opened, AskedIndex)
        assert opened.count() == 5
    # A process that was killed has left its word behind.
    (tmp_path / "index/holder.json").write_text(
        json.dumps({"purpose": "x", "pid": 1, "host": "h", "since": "s", "socket": str(path)})
    )
    with open_to_search(address, purpose="test") as opened:
        assert opened.count() == 5


def test_a_killed_writers_socket_is_swept_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept, swept = tmp_path / "precious" / "socket", tmp_path / "cbmir-answers-x" / "socket"
    for path in (kept, swept):
        path.parent.mkdir()
        with socket.socket(socket.AF_UNIX) as left:
            monkeypatch.chdir(path.parent)  # the whole name may be too long
            left.bind(path.name)
        address = parse_address(tmp_path / "index")
        create_index(address, describe(), purpose="writing").close()
        word = {"purpose": "x", "pid": 1, "host": "h", "since": "s", "socket": str(path)}
        (tmp_path / "index/holder.json").write_text(json.dumps(word))
        create_index(address, describe(), purpose="writing").close()
    assert kept.exists()
    assert not swept.parent.exists()


def test_a_writer_that_is_busy_or_gone_is_said(
    writer: Index, asked: Searchable, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(owner, "ANSWER_SECONDS", 0.2)
    release = threading.Event()
    monkeypatch.setattr(writer, "count", lambda _where: release.wait(10))
    with pytest.raises(IndexLockedError, match=r"'writing'.*it answers no questions just now"):
        asked.count()
    release.set()
    path = tmp_path / "s"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        monkeypatch.setattr(asked, "_socket", str(path))

        def hang_up() -> None:
            listener.accept()[0].close()

        hangs_up = threading.Thread(target=hang_up)
        hangs_up.start()
        with pytest.raises(IndexLockedError, match="has ended meanwhile: ask again"):
            asked.count()
        hangs_up.join()
    with pytest.raises(IndexLockedError, match="has ended meanwhile: ask again"):
        asked.count()  # nobody listens any more


@pytest.mark.parametrize("sent", [b"", b"nonsense\n", b'{"call": "delete"}\n', b'{"call": "nearest"}\n', b"[1]\n"])
def test_nonsense_harms_nothing(writer: Index, asked: Searchable, tmp_path: Path, sent: bytes) -> None:
    there = holder(tmp_path / "index")
    assert there
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(there.socket)
        connection.sendall(sent)
        connection.shutdown(socket.SHUT_WR)
        answer = connection.makefile("rb").readline()
    assert not answer or "was not understood" in json.loads(answer)["error"]
    assert asked.count() == writer.count()


def test_a_folder_whose_name_is_too_long_for_a_socket_is_answered_for_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    long = tmp_path / ("l" * 120)
    long.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(long))
    address = parse_address(long / "index")
    with create_index(address, describe(), purpose="writing"), open_to_search(address, purpose="test") as opened:
        assert isinstance(opened, AskedIndex)


@pytest.mark.usefixtures("without_ray")
def test_cbmir_searches_while_a_job_writes(
    archive: Path, model_path: Path, program: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("workers.indexing.sink.UPSERT_POINTS", 4)
    monkeypatch.setattr("workers.indexing.streaming.LOOK_SECONDS", 0.0)
    index = tmp_path / "index"
    query = next((archive / "eye").iterdir())
    answers: list[subprocess.CompletedProcess[str]] = []

    def run(*arguments: Any) -> subprocess.CompletedProcess[str]:
        command = list(map(str, [program, *arguments, "--index", index]))
        return subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)

    class Asking(JobObserver):
        def progress(self, progress: Progress) -> None:
            if not answers and progress.stage == "indexing" and progress.sink and progress.sink.points >= 12:
                answers.append(
                    run(
                        "search",
                        query,
                        "--no-class-prediction",
                        "--any-modality",
                        "--top",
                        3,
                        "--runtime",
                        "openvino",
                        "--format",
                        "json",
                    )
                )
                answers.append(run("status"))

    index_archive(small_job((archive,), model_path, index), Asking())
    search, status = answers
    assert search.returncode == 0, search.stderr
    assert len(json.loads(search.stdout)[0]["hits"]) == 3
    assert "writes to the index: what it has stored so far was searched" in " ".join(search.stderr.split())
    assert status.returncode == 0, status.stderr
    assert "is in use by 'cbmir index'" in " ".join(status.stderr.split())
    assert "points" in status.stdout
