from __future__ import annotations

from collections import Counter

import numpy as np

from model.training.sampling import OF_A_CLASS, BalancedBatches


def test_small_classes_and_small_sources_are_drawn_often() -> None:
    # One class of a hundred times the images of another, and in it one source of nine tenths.
    labels = np.array([0] * 1000 + [1] * 10)
    sources = np.array([0] * 900 + [1] * 100 + [2] * 5 + [3] * 5)
    drawing = BalancedBatches(labels, sources, size=4)
    random = np.random.default_rng(0)
    drawn = np.concatenate([drawing.draw(random) for _ in range(300)])
    by_class, by_source = Counter(labels[drawn].tolist()), Counter(sources[drawn].tolist())
    assert 5 < by_class[0] / by_class[1] < 20  # the root of a hundred
    assert 0.8 < by_source[0] / by_source[1] < 1.25


def test_an_update_has_several_images_of_each_of_its_classes_from_different_sources() -> None:
    labels = np.repeat(np.arange(40), 20)
    sources = np.tile(np.arange(5), 160)
    drawing = BalancedBatches(labels, sources, size=32)
    for seed in range(20):
        chosen = drawing.draw(np.random.default_rng(seed))
        assert len(chosen) == 32
        assert set(Counter(labels[chosen].tolist()).values()) == {OF_A_CLASS}
        for label in set(labels[chosen].tolist()):
            assert len(set(sources[chosen][labels[chosen] == label].tolist())) == OF_A_CLASS
    assert np.array_equal(drawing.draw(np.random.default_rng(1)), drawing.draw(np.random.default_rng(1)))


def test_fewer_classes_than_room() -> None:
    drawing = BalancedBatches(np.array([0, 0, 1]), np.array([0, 1, 2]), size=11)
    assert len(drawing.draw(np.random.default_rng(0))) == 11
