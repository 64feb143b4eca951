from __future__ import annotations

from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from model.errors import SettingError
from workers.cluster import object_store_bytes, share_resources


@given(cpus=st.integers(1, 256), actors=st.none() | st.integers(1, 32), gpus=st.integers(0, 8))
def test_something_is_left_to_decode_and_stages_differ(cpus: int, actors: int | None, gpus: int) -> None:
    per_actor = None if actors is None or gpus == 0 else min(1.0, gpus / actors)
    room = actors if not per_actor else gpus * int(1 / per_actor + 1e-9)
    pool = None if actors is None or room is None else (min(actors, room), min(actors, room))
    resources = share_resources(cpus, gpus, actors=pool, actor_gpus=per_actor, batch_size=None)
    assert resources.actors[1] * resources.actor_cpus + resources.decode_cpus <= cpus
    assert resources.actor_cpus != resources.decode_cpus
    assert resources.actor_threads >= 1


def test_every_core_gets_an_actor_and_many_cores_share_eight() -> None:
    resources = share_resources(2, 0, actors=None, actor_gpus=None, batch_size=None)
    assert (resources.actors, resources.actor_threads, resources.device) == ((2, 2), 1, "cpu")
    resources = share_resources(64, 0, actors=None, actor_gpus=None, batch_size=None)
    assert (resources.actors, resources.actor_threads) == ((8, 8), 8)


def test_gpus_are_taken_and_never_more_than_there_are() -> None:
    assert share_resources(16, 2, actors=None, actor_gpus=None, batch_size=None).actors == (1, 2)
    assert share_resources(16, 1, actors=None, actor_gpus=0.25, batch_size=8).actors == (1, 4)
    for gpus, actors in ((4.0, None), (1.0, (1, 3))):
        with pytest.raises(SettingError, match="GPUs"):
            share_resources(16, 2, actors=actors, actor_gpus=gpus, batch_size=None)
    with pytest.raises(SettingError, match="makes no sense"):
        share_resources(16, 0, actors=(3, 2), actor_gpus=None, batch_size=None)


def test_a_share_lies_on_one_gpu() -> None:
    assert share_resources(16, 7, actors=(21, 21), actor_gpus=1 / 3, batch_size=None).actors == (21, 21)
    assert share_resources(16, 4, actors=None, actor_gpus=0.7, batch_size=None).actors == (1, 4)
    assert share_resources(16, 8, actors=None, actor_gpus=2, batch_size=None).actors == (1, 4)
    for share, actors, message in ((7 / 25, (25, 25), "21 do"), (1.5, None, "whole number")):
        with pytest.raises(SettingError, match=message):
            share_resources(16, 7, actors=actors, actor_gpus=share, batch_size=None)


@given(node=st.integers(1, 64), nodes=st.integers(1, 64), actors=st.none() | st.integers(1, 32))
def test_an_actor_finds_room_on_a_node_of_a_cluster(node: int, nodes: int, actors: int | None) -> None:
    pool = None if actors is None else (actors, actors)
    resources = share_resources(node * nodes, 0, node_cpus=node, actors=pool, actor_gpus=None, batch_size=None)
    assert resources.actor_cpus < node
    assert resources.actor_threads <= node
    assert resources.actors[1] * resources.actor_cpus + resources.decode_cpus <= node * nodes


@pytest.mark.parametrize(
    ("cpus", "shared", "expected"), [(2, 2**34, 2**28), (16, 2**34, 2**31), (64, 2**32, 2**31), (16, 2**26, 2**28)]
)
def test_the_object_store_follows_the_machine(
    cpus: int, shared: int, expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = SimpleNamespace(total=shared)
    monkeypatch.setattr("workers.cluster.shutil.disk_usage", lambda _path: usage)
    assert object_store_bytes(cpus) == expected
