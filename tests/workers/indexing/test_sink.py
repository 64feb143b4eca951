from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from itertools import permutations
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from index.address import parse_address
from index.engines.engine import Index
from index.ledger import FileKey, Ledger
from index.opening import create_index
from index.schema import Location, point_id
from index.upkeep.dropping import drop_points
from tests.index.conftest import WIDTH, describe
from workers.indexing.planning import PendingFile
from workers.indexing.rows import FEATURE, embedded_schema
from workers.indexing.sink import Sink, SinkCounts

SCHEMA = embedded_schema({"fcl1": WIDTH})


@dataclass
class Store:
    """An index, its ledger, and sinks over windows of named files."""

    index: Index
    ledger: Ledger
    counts: SinkCounts = field(default_factory=SinkCounts)
    left_out: dict[str, str] = field(default_factory=dict)

    def sink(self, *names: str, labels: dict[str, str] | None = None) -> Sink:
        window = [PendingFile(FileKey(0, "d", n), f"/d/{n}", f"/d/{n}", 1, 1, (labels or {}).get(n)) for n in names]

        def left_out(file: PendingFile, reason: str, detail: str, frames: str | None) -> None:
            self.left_out[file.key.name] = f"{reason}: {detail}" + (f" (frame {frames})" if frames else "")

        return Sink(self.index, self.ledger, window, left_out, self.counts)

    def locations(self) -> dict[str, list[str]]:
        """Paths by the identity's hash digit, of everything stored."""
        return {str(point): [one.path for one in payload.locations] for point, payload in self.index.scroll()}


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with create_index(parse_address(tmp_path / "index"), describe(), purpose="test") as index:
        ledger = Ledger(tmp_path)
        yield Store(index, ledger)
        ledger.close()


def row(
    file: int, identity: str, *, frame: int = 1, of: int = 1, uid: str | None = None, organ: int = 0
) -> dict[str, Any]:
    feature = np.full(WIDTH, (hash(identity) % 50) / 10, FEATURE)
    return {
        "file": file,
        "frame": frame,
        "of": of,
        "identity": identity,
        "sop_instance_uid": uid,
        "best_guess": organ,
        "organ_probability": 0.5,
        "known": organ != 2,
        "fcl1": feature.tobytes(),
    }


def bad(file: int) -> dict[str, Any]:
    return {"file": file, "frame": 0, "of": 1, "reason": "corrupt or truncated", "detail": "half"}


def table(*rows: dict[str, Any]) -> pa.Table:
    return pa.Table.from_pylist(list(rows), SCHEMA)


@pytest.mark.parametrize("place", range(5))
def test_a_bad_file_in_any_place_shifts_nothing(store: Store, place: int) -> None:
    names = [f"file{n}" for n in range(5)]
    rows = [bad(n) if n == place else row(n, f"picture{n}", organ=n % 3) for n in range(5)]
    sink = store.sink(*names, labels={name: f"label of {name}" for name in names})
    sink.take(table(*rows))
    sink.commit()
    assert store.left_out == {f"file{place}": "corrupt or truncated: half"}
    stored = store.index.retrieve([point_id(f"picture{n}") for n in range(5)])
    assert len(stored) == 4
    for n in set(range(5)) - {place}:
        payload = stored[point_id(f"picture{n}")]
        assert payload.locations == (Location(0, f"d/file{n}"),)
        assert payload.label == f"label of file{n}"
        assert payload.best_guess == describe().classes[n % 3]
        assert payload.organ == ("unknown" if n % 3 == 2 else payload.best_guess)
    assert store.ledger.counts() == {"indexed": 4, "left out": 1}


def test_frames_may_come_in_any_order_and_in_pieces(store: Store) -> None:
    sink = store.sink("cine", "single")
    sink.take(table(row(0, "frame3", frame=3, of=3), row(1, "single")))
    sink.take(table(row(0, "frame1", frame=1, of=3)))
    sink.commit()
    assert store.ledger.counts() == {"indexed": 1, "writing": 1}
    assert sink.accounted == {1}
    sink.take(table(row(0, "frame2", frame=2, of=3)))
    sink.commit()
    assert store.index.count() == 4
    assert store.ledger.counts() == {"indexed": 2}
    assert [payload.frame for payload in store.index.retrieve([point_id("frame2")]).values()] == [2]


def test_frames_that_are_broken_cost_no_other(store: Store) -> None:
    sink = store.sink("cine", "lost")
    not_finite = {"reason": "features not finite", "detail": "check the model"}
    damaged = {"reason": "corrupt or truncated", "detail": "no end"}
    every = [row(0, f"frame{n}", frame=n, of=6) for n in range(1, 7)]
    every[1] |= not_finite
    for n in (3, 4, 5):
        every[n] |= damaged
    sink.take(table(*reversed(every)))
    sink.take(table(*(row(1, f"lost{n}", frame=n, of=2) | damaged for n in (1, 2))))
    sink.commit()
    assert sorted(payload.frame for _, payload in store.index.scroll()) == [1, 3]
    assert store.left_out == {
        "cine": "corrupt or truncated: no end (frame 4-6 of 6)",
        "lost": "corrupt or truncated: no end",
    }
    assert store.counts.files == 1
    assert store.ledger.counts() == {"indexed": 1, "left out": 1}
    assert store.ledger.indexed_in_part() == 1
    assert store.ledger.directory(0, "d")["cine"].reason == "features not finite"


def test_a_class_that_contradicts_the_modality_is_unknown(tmp_path: Path) -> None:
    description = replace(describe(), classes=("chest_ct", "knee_mr", "eye"))
    with create_index(parse_address(tmp_path / "other"), description, purpose="test") as index:
        ledger = Ledger(tmp_path / "other")
        sink = Store(index, ledger).sink("a", "b", "c", "d")
        rows = [row(n, f"{n}", organ=organ) for n, organ in enumerate((0, 1, 0, 0))]
        for one, modality in zip(rows, ("CT", "CT", "MR", None), strict=True):
            one["modality"] = modality
        sink.take(table(*rows))
        sink.commit()
        stored = [index.retrieve([point_id(f"{n}")])[point_id(f"{n}")] for n in range(4)]
        assert [payload.organ for payload in stored] == ["chest_ct", "unknown", "unknown", "chest_ct"]
        assert [payload.best_guess for payload in stored] == ["chest_ct", "knee_mr", "chest_ct", "chest_ct"]
        ledger.close()


def test_many_kinds_of_fault_in_one_file_are_one_line_a_reason(store: Store) -> None:
    sink = store.sink("cine")
    broken = {"reason": "corrupt or truncated"}
    rows = [row(0, f"{n}", frame=n, of=60) | broken | {"detail": f"byte {n}"} for n in range(2, 61)]
    sink.take(table(row(0, "1", frame=1, of=60), *rows))
    sink.commit()
    assert store.left_out == {"cine": "corrupt or truncated: byte 2 (frame 2-60 of 60)"}


def test_a_file_that_was_lost_in_its_middle_is_left_out_whole(store: Store) -> None:
    sink = store.sink("cine")
    sink.take(table(*(row(0, f"{n}", frame=n, of=6) for n in (1, 2, 3))))
    sink.take(table(bad(0) | {"reason": "decoder crashed"}))
    sink.commit()
    assert (store.ledger.counts(), store.index.count()) == ({"left out": 1}, 0)


def test_copies_are_one_point_whatever_their_order(tmp_path: Path) -> None:
    results = set()
    for number, order in enumerate(permutations(range(3))):
        with create_index(parse_address(tmp_path / f"index{number}"), describe(), purpose="test") as index:
            ledger = Ledger(tmp_path / f"index{number}")
            store = Store(index, ledger)
            sink = store.sink("b", "a", "c", labels={"a": "label of a", "b": "label of b"})
            for file in order:
                sink.take(table(row(file, "same")))
                sink.commit()
            [(_, payload)] = index.scroll()
            results.add(payload)
            assert store.counts.copies == 2
            ledger.close()
    [payload] = results
    assert [location.path for location in payload.locations] == ["d/a", "d/b", "d/c"]
    assert payload.label == "label of a"


def test_repeated_uids_with_other_pixels_are_reported(store: Store) -> None:
    sink = store.sink("a", "b", "c", "d")
    sink.take(table(row(0, "one", uid="1.2"), row(1, "one", uid="1.2"), row(3, "three", uid="1.3")))
    sink.commit()
    assert store.counts.repeated_uids == set()
    sink.take(table(row(2, "two", uid="1.2")))
    sink.commit()
    assert store.counts.repeated_uids == {"1.2"}
    assert store.index.count() == 3


def test_a_changed_files_old_points_go_and_shared_ones_stay(store: Store) -> None:
    sink = store.sink("a", "b")
    sink.take(table(row(0, "old", frame=1, of=2), row(0, "shared", frame=2, of=2), row(1, "shared")))
    sink.commit()
    assert store.index.count() == 2
    changed = store.sink("a")
    changed.take(table(row(0, "new")))
    changed.commit()
    assert store.locations() == {str(point_id("new")): ["d/a"], str(point_id("shared")): ["d/b"]}
    broken = store.sink("a")
    broken.take(table(bad(0)))
    broken.commit()
    assert store.locations() == {str(point_id("shared")): ["d/b"]}


def test_a_writer_that_died_between_points_and_ledger_leaves_no_orphan(store: Store) -> None:
    class Death(Exception):
        """The process ends here."""

    sink = store.sink("a")
    sink.take(table(row(0, "first")))
    store.index.flush = lambda: (_ for _ in ()).throw(Death())  # type: ignore[method-assign] # after the points, before the ledger
    with pytest.raises(Death):
        sink.commit()
    del store.index.flush
    assert store.index.count() == 1
    assert store.ledger.counts() == {"writing": 1}
    # Meanwhile the file was changed: the dead job's point must not stay.
    again = store.sink("a")
    again.take(table(row(0, "second")))
    again.commit()
    assert store.locations() == {str(point_id("second")): ["d/a"]}
    assert store.ledger.counts() == {"indexed": 1}


def test_dropping_a_file_twice_is_dropping_it_once(store: Store) -> None:
    sink = store.sink("a")
    sink.take(table(row(0, "one")))
    sink.commit()
    for _ in range(2):
        drop_points(store.index, store.ledger, {FileKey(0, "d", "a"): [point_id("one")]})
        assert store.index.count() == 0


@pytest.mark.parametrize("reason", ["unreadable file", "decoder crashed"])
def test_a_passing_fault_takes_nothing_away(store: Store, reason: str) -> None:
    sink = store.sink("a", "b")
    sink.take(table(row(0, "one"), bad(1) | {"reason": reason}))
    sink.commit()
    assert store.ledger.counts() == {"indexed": 1, "left out": 1}
    again = store.sink("a")
    again.take(table(bad(0) | {"reason": reason}))
    again.commit()
    assert store.locations() == {str(point_id("one")): ["d/a"]}
    assert store.ledger.counts() == {"indexed": 1, "left out": 1}
    assert store.left_out["a"].startswith(reason)


def test_a_moved_files_label_moves_with_it(store: Store) -> None:
    sink = store.sink("lung", labels={"lung": "lung"})
    sink.take(table(row(0, "same")))
    sink.commit()
    moved = store.sink("skin", labels={"skin": "skin"})
    moved.take(table(row(0, "same")))
    moved.commit()
    drop_points(store.index, store.ledger, {FileKey(0, "d", "lung"): [point_id("same")]})
    [(_, payload)] = store.index.scroll()
    assert ([location.path for location in payload.locations], payload.label) == (["d/skin"], "skin")


def test_a_copy_that_comes_again_with_its_picture_is_done_once_more(store: Store) -> None:
    both = store.sink("a", "b")
    both.take(table(row(0, "same", uid="a"), row(1, "same", uid="b")))
    both.commit()
    again = store.sink("a", "b")
    again.take(table(row(0, "other", uid="a"), row(1, "same", uid="b")))
    again.commit()
    assert store.ledger.counts() == {"indexed": 1, "writing": 1}  # the picture has still the header of the first
    last = store.sink("b")
    last.take(table(row(0, "same", uid="b")))
    last.commit()
    assert store.ledger.counts() == {"indexed": 2}
    payloads = dict(store.index.scroll())
    assert payloads[point_id("same")].header.sop_instance_uid == "b"


def test_an_interrupted_drop_is_made_up_for(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    sink = store.sink("a")
    sink.take(table(row(0, "old")))
    sink.commit()
    changed = store.sink("a")
    changed.take(table(row(0, "new")))
    with monkeypatch.context() as broken:
        broken.setattr(store.index, "delete", lambda ids: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            changed.commit()
    changed.commit()
    assert store.locations() == {str(point_id("new")): ["d/a"]}


def test_a_frame_that_comes_twice_does_not_stand_for_another(store: Store) -> None:
    sink = store.sink("a")
    first, second = row(0, "one", of=2), row(0, "two", frame=2, of=2)
    sink.take(table(first))
    sink.take(table(first))
    assert sink.accounted == set()
    sink.take(table(second))
    sink.commit()
    assert store.index.count() == 2


def test_the_counts_do_not_depend_on_the_batches(store: Store) -> None:
    sink = store.sink("a", "b")
    sink.take(table(row(0, "same"), row(1, "same")))
    assert (store.counts.files, store.counts.points) == (0, 0)
    sink.commit()
    assert (store.counts.files, store.counts.points, store.counts.copies) == (2, 2, 1)
