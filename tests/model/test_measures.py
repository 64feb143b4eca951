from __future__ import annotations

import numpy as np
import pytest

from model.measures import classification_measures


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
