"""What version 0.1 (commit db7a370) made is opened, searched, gone on with and restored.

It lies in ``tests/support/version_0_1``: ``scans`` are four phantoms and a text, indexed as ``/srv/yesterday/scans``
with the bundled model of then, organs24, and keyed hashes of patients; ``hits.json`` is what that version answered to
``scans/eye/0.dcm``.
"""

from __future__ import annotations

import json
import lzma
import tarfile
from dataclasses import replace
from pathlib import Path

import pytest

from index.address import parse_address
from index.engines.engine import Index
from index.home.description import read_description
from index.ledger import Ledger
from index.opening import open_index
from index.query import query_from_image
from index.search import Options, search
from index.upkeep.backup import restore
from model.network.bundled import find_model
from model.network.embedder import Embedder
from model.network.metadata import read_metadata
from workers.indexing.job import index_archive
from workers.indexing.settings import JobSettings, Privacy

MADE = Path(__file__).parent / "support" / "version_0_1"


@pytest.fixture(scope="module")
def embedder() -> Embedder:
    return Embedder.load(find_model("organs24"))


@pytest.fixture
def work(tmp_path: Path) -> Path:
    for name in ("index", "scans"):
        with tarfile.open(MADE / f"{name}.tar.xz") as packed:
            packed.extractall(tmp_path, filter="data")
    return tmp_path


def assert_same_hits(index: Index, scans: Path, embedder: Embedder) -> None:
    query = query_from_image(scans / "eye" / "0.dcm", embedder)
    answer = search(index, query, Options(top=5, organs=(), exact=True))
    [expected] = json.loads((MADE / "hits.json").read_text())
    assert [str(hit.id) for hit in answer.hits] == [hit["id"] for hit in expected["hits"]]
    assert [hit.score for hit in answer.hits] == pytest.approx([h["distance"] for h in expected["hits"]], abs=0.05)
    assert [hit.payload.label for hit in answer.hits] == [hit["label"] for hit in expected["hits"]]


def test_the_checkpoint_is_the_one_that_made_the_index(work: Path) -> None:
    metadata = read_metadata(find_model("organs24"))
    assert metadata.fingerprint == read_description(work / "index").model_fingerprint
    assert len(metadata.classes) == 24


def test_an_index_is_opened_and_searched(work: Path, embedder: Embedder) -> None:
    with open_index(parse_address(work / "index"), purpose="test", only_reads=True) as index:
        assert (index.count(), index.facet("label")) == (5, {"chest": 1, "eye": 1, "knee": 1})
        assert_same_hits(index, work / "scans", embedder)


def test_a_job_goes_on_with_its_ledger(work: Path) -> None:
    ledger = Ledger(work / "index", read_only=True)
    assert ledger.counts() == {"indexed": 4, "left out": 1}
    ledger.close()
    job = JobSettings(
        (work / "scans",), parse_address(work / "index"), labels="folder", privacy=Privacy(keep_patient_group=True)
    )
    report = index_archive(replace(job, moved_from="/srv/yesterday/scans"))
    assert (report.files_moved, report.files_unchanged, report.points, report.outcome) == (5, 5, 0, "complete")
    again = index_archive(job)
    assert (again.files_unchanged, again.files_new, again.left_out_before, again.in_part_before) == (5, 0, 1, 0)


def test_a_backup_is_restored(tmp_path: Path, work: Path, embedder: Embedder) -> None:
    backup = tmp_path / "backup.tar.gz"
    backup.write_bytes(lzma.decompress((MADE / "backup.tar.gz.xz").read_bytes()))
    restore(backup, parse_address(tmp_path / "restored"))
    with open_index(parse_address(tmp_path / "restored"), purpose="test") as index:
        assert_same_hits(index, work / "scans", embedder)
