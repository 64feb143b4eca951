from __future__ import annotations

import json
import multiprocessing
import os
from pathlib import Path

import pytest

from index.address import parse_address
from index.home.description import read_description
from index.opening import create_index, open_index
from model.errors import (
    IndexLockedError,
    ModelMismatchError,
    NotAnIndexError,
    SettingError,
    VectorIndexError,
)
from tests.index.conftest import describe, make_points


def test_what_is_no_index_is_refused(tmp_path: Path) -> None:
    with pytest.raises(NotAnIndexError, match="does not exist"):
        open_index(parse_address(tmp_path / "absent"), purpose="test")
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "cat.jpg").write_text("")
    with pytest.raises(NotAnIndexError, match=r"holds no index\.json"):
        open_index(parse_address(tmp_path / "photos"), purpose="test")
    with pytest.raises(NotAnIndexError, match="not empty and not an index"):
        create_index(parse_address(tmp_path / "photos"), describe(), purpose="test")
    (tmp_path / "file").write_text("")
    with pytest.raises(VectorIndexError, match="cannot be made"):
        create_index(parse_address(tmp_path / "file" / "index"), describe(), purpose="test")
    with pytest.raises(SettingError, match="no address of an index"):
        open_index(parse_address("s3://bucket/index"), purpose="test")


def test_another_model_or_setting_is_refused(tmp_path: Path) -> None:
    create_index(parse_address(tmp_path / "index"), describe(), purpose="test").close()
    for changes, message in (
        ({"model_fingerprint": "0" * 32}, "made by another model"),
        ({"layers": ("fcl2",)}, "has layers"),
        ({"quantization": "none"}, "has quantization"),
    ):
        with pytest.raises(ModelMismatchError, match=message):
            create_index(parse_address(tmp_path / "index"), describe(**changes), purpose="test")
    create_index(parse_address(tmp_path / "index"), describe(model_path="/moved"), purpose="test").close()


def test_damaged_and_future_descriptions_are_named(tmp_path: Path) -> None:
    create_index(parse_address(tmp_path / "index"), describe(), purpose="test").close()
    file = tmp_path / "index" / "index.json"
    values = json.loads(file.read_text())
    for text, message in (
        ("{", "is damaged"),
        (json.dumps({**values, "schema_version": 99}), "schema version 99"),
        (json.dumps({**values, "unknown": 1}), "no field 'unknown'"),
        (json.dumps({name: value for name, value in values.items() if name != "classes"}), "'classes' is missing"),
        (json.dumps({**values, "roots": "/archive"}), "roots is no list"),
        ("[]", "no JSON object"),
    ):
        file.write_text(text)
        with pytest.raises(VectorIndexError, match=message):
            open_index(parse_address(tmp_path / "index"), purpose="test")


def test_a_creation_cut_off_before_the_first_point_is_finished(tmp_path: Path) -> None:
    create_index(parse_address(tmp_path / "index"), describe(), purpose="test").close()
    (tmp_path / "index" / "shard").rename(tmp_path / "index" / "shard.partial")
    with create_index(parse_address(tmp_path / "index"), describe(), purpose="test") as index:
        index.upsert(make_points(3))
        assert index.count() == 3


def test_a_lost_shard_is_never_made_anew_in_silence(tmp_path: Path) -> None:
    create_index(parse_address(tmp_path / "index"), describe(), purpose="test").close()
    (tmp_path / "index" / "shard" / "edge_config.json").unlink()
    with pytest.raises(VectorIndexError, match="has lost its shard"):
        open_index(parse_address(tmp_path / "index"), purpose="test")
    with pytest.raises(VectorIndexError, match="has lost its shard"):
        create_index(parse_address(tmp_path / "index"), describe(), purpose="test")
    assert (tmp_path / "index" / "shard" / "segments").exists()


def test_roots_and_model_path_can_change(tmp_path: Path) -> None:
    with create_index(parse_address(tmp_path / "index"), describe(), purpose="test") as index:
        index.update_description(roots=("/archive", "/more"), model_path="/moved")
    assert read_description(tmp_path / "index").roots == ("/archive", "/more")
    assert read_description(tmp_path / "index").model_path == "/moved"


def hold(folder: Path, ready: multiprocessing.synchronize.Event, done: multiprocessing.synchronize.Event) -> None:
    with open_index(parse_address(folder), purpose="cbmir index"):
        ready.set()
        done.wait(60)


def test_a_locked_index_names_its_holder_and_is_free_after_it(tmp_path: Path) -> None:
    create_index(parse_address(tmp_path / "index"), describe(), purpose="test").close()
    context = multiprocessing.get_context("spawn")
    ready, done = context.Event(), context.Event()
    process = context.Process(target=hold, args=(tmp_path / "index", ready, done))
    process.start()
    assert ready.wait(60)
    with pytest.raises(IndexLockedError, match=rf"'cbmir index' \(process {process.pid} on .*wait until it has ended"):
        open_index(parse_address(tmp_path / "index"), purpose="test", wait=0.1)
    done.set()
    with open_index(parse_address(tmp_path / "index"), purpose="test", wait=30) as index:
        assert index.count() == 0
        assert json.loads((tmp_path / "index" / "holder.json").read_text())["pid"] == os.getpid()
    process.join()
    assert not (tmp_path / "index" / "holder.json").exists()
