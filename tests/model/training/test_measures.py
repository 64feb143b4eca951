from __future__ import annotations

import numpy as np
import pytest

from model.training.measures import bootstrap_interval, classification_measures, expected_calibration_error


def test_measures_of_a_known_confusion() -> None:
    true = np.array([0] * 4 + [1] * 4)
    predicted = np.array([0, 0, 0, 1, 1, 1, 1, 1])
    measures = classification_measures(true, predicted, ["liver", "brain"])
    assert measures.accuracy == 7 / 8
    assert measures.average_precision == pytest.approx((1 + 4 / 5) / 2)
    assert measures.average_recall == pytest.approx((3 / 4 + 1) / 2)
    ap, ar = measures.average_precision, measures.average_recall
    assert measures.f1 == pytest.approx(2 * ap * ar / (ap + ar))
    assert measures.confusion == ((3, 1), (0, 4))
    assert [c.name for c in measures.classes] == ["liver", "brain"]


def test_classes_without_an_image_are_left_out_of_the_means() -> None:
    true, predicted = np.array([0, 0, 2, 2]), np.array([0, 1, 2, 2])
    measures = classification_measures(true, predicted, ["liver", "brain", "knee", "eye"])
    assert measures.average_precision == 1.0
    assert measures.average_recall == 0.75
    assert [c.recall for c in measures.classes] == [0.5, None, 1.0, None]
    never = classification_measures(np.array([0, 1]), np.array([0, 0]), ["liver", "brain"])
    assert never.average_precision == 0.25
    wrong = classification_measures(np.array([0]), np.array([1]), ["liver", "brain"])
    assert (wrong.accuracy, wrong.f1) == (0, 0)


def test_calibration_error_is_its_definition() -> None:
    rng = np.random.default_rng(0)
    confidence = rng.random(500)
    right = rng.random(500) < confidence**2
    expected = 0.0
    for low in np.arange(15) / 15:
        inside = (confidence >= low) & (confidence < low + 1 / 15)
        if inside.any():
            expected += inside.mean() * abs(right[inside].mean() - confidence[inside].mean())
    assert expected_calibration_error(confidence, right) == pytest.approx(expected)
    assert expected_calibration_error(np.array([1.0, 1.0]), np.array([True, True])) == 0
    assert expected_calibration_error(np.array([1.0]), np.array([False])) == 1


def test_the_bootstrap_is_seeded_and_brackets_the_figure() -> None:
    right = np.arange(200) % 10 != 0
    interval = bootstrap_interval(lambda sample: float(sample.mean()), right)
    assert interval == bootstrap_interval(lambda sample: float(sample.mean()), right)
    assert interval
    assert 0.8 < interval.low < 0.9 < interval.high < 1
    assert bootstrap_interval(lambda sample: float(sample.mean()), right[:1]) is None
