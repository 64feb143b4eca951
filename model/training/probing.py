"""Fitting a probe: logistic regression on the features of a layer, calibrated on images that it was not fitted on."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from model.errors import ImageError, RepositoryError
from model.network.calibration import LEAST_IMAGES, calibrate, known_images
from model.network.embedder import Embedder
from model.network.probe import Probe, ProbeDescription
from model.training.evaluation import predict
from model.training.loading import load_repository, require_every_class
from model.training.measures import ClassificationMeasures, classification_measures
from model.training.repository import LabelledFile, Split, listing_hash

if TYPE_CHECKING:
    from sklearn.linear_model import LogisticRegression

STRENGTHS: Final = (0.001, 0.01, 0.1, 1.0)
"""Inverse strengths of the regularisation, of which the validation part chooses one."""

WITHOUT_VALIDATION: Final = 0.01
"""The one that is taken where there is no validation part."""

MOST_WRONG: Final = 0.04
"""Share of the validation images that may be named wrongly. On frames of scanners of which nothing was fitted, where
three quarters of the guesses are right, this took 15 % wrong to 8 %, and 75 % right to 68 %; where nearly all guesses
are right it changes nothing."""

_ITERATIONS: Final = 300


def fit_probe(
    embedder: Embedder,
    files: Sequence[LabelledFile],
    *,
    layer: str,
    workers: int = 0,
    loaded: Callable[[int, int], None] | None = None,
    embedded: Callable[[int, int], None] | None = None,
    fitting: Callable[[], None] | None = None,
) -> tuple[Probe, ClassificationMeasures | None, list[ImageError]]:
    """Fit a probe of a model; return it with the measures of the test part, and the errors of the files left out.

    The training part fits it, the validation part chooses its regularisation, its temperature and its threshold of the
    unknown, and the test part, if there is one, measures it.

    Args:
        embedder: the model, without a probe.
        files: with their splits.
        layer: whose features are classified, a head's or one of the model's own.
        workers: processes that decode.
        loaded: told how many of how many files are decoded.
        embedded: told how many of how many frames are embedded.
        fitting: told that everything is embedded.

    Raises:
        RepositoryError: there is only one class, or one has no training image that can be read.
    """
    classes = tuple(sorted({file.label for file in files}))
    if len(classes) < 2:
        raise RepositoryError("a probe tells two classes or more apart: give images of another one")
    parts, left_out = load_repository(files, classes, workers=workers, prepare=embedder.preparation, progress=loaded)
    require_every_class(parts["train"], classes, left_out)
    features: dict[Split, NDArray[np.float32]] = {}
    done, images = 0, sum(map(len, parts.values()))
    for split, frames in parts.items():
        start = done
        if len(frames):
            told = (lambda count, start=start: embedded(start + count, images)) if embedded else None
            features[split] = predict(embedder, frames, (layer,), told).features[layer]
        done += len(frames)
    if fitting:
        fitting()
    labels = {split: frames.labels for split, frames in parts.items()}
    weights, bias = _fit(features, labels, len(classes))
    centroids = _means(features["train"], labels["train"], len(classes))
    calibration = measures = kept = None
    if len(labels["validation"]) >= LEAST_IMAGES:
        held_out = features["validation"]
        logits = held_out @ weights + bias
        calibration = calibrate(logits, held_out, labels["validation"], centroids, most_wrong=MOST_WRONG)
    if len(labels["test"]):
        logits = features["test"] @ weights + bias
        measures = classification_measures(labels["test"], logits.argmax(1), classes)
        if calibration:
            kept = float(known_images(calibration, logits, features["test"], centroids).mean())
    description = ProbeDescription(
        layer,
        embedder.metadata.fingerprint,
        classes,
        head=embedder.heads[layer].fingerprint if layer in embedder.heads else "",
        calibration=calibration,
        measures=measures.to_json() if measures else None,
        data={
            "images": {split: len(frames) for split, frames in parts.items()},
            "left_out": len(left_out),
            "test_known": kept,
            "files": listing_hash(files),
        },
    )
    return Probe(description, weights, bias, centroids), measures, left_out


def _fit(
    features: dict[Split, NDArray[np.float32]], labels: dict[Split, NDArray[np.int64]], classes: int
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """``(values, classes)`` and ``(classes,)``: logistic regression on standardised features, for features as they are.

    The training images of a rare class weigh more, as those of none are rare among what is searched for.
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import log_loss

    training = features["train"].astype(np.float64)
    mean, deviation = training.mean(0), training.std(0)
    scale = np.divide(1, deviation, out=np.zeros_like(deviation), where=deviation > 0)  # a silent value says nothing
    standard = {split: (values - mean) * scale for split, values in features.items()}
    chooses = len(labels["validation"]) > 0
    best: tuple[float, LogisticRegression] | None = None
    for strength in STRENGTHS if chooses else (WITHOUT_VALIDATION,):
        regression = LogisticRegression(C=strength, class_weight="balanced", max_iter=_ITERATIONS)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", category=ConvergenceWarning)  # the validation part judges what it is then
            regression.fit(standard["train"], labels["train"])
        loss = 0.0
        if chooses:
            found = regression.predict_proba(standard["validation"])
            loss = float(log_loss(labels["validation"], found, labels=np.arange(classes)))
        if best is None or loss < best[0]:
            best = loss, regression
    assert best
    coefficients, intercept = best[1].coef_, best[1].intercept_
    if classes == 2:  # of which the library keeps the difference
        coefficients, intercept = np.vstack([-coefficients, coefficients]) / 2, np.append(-intercept, intercept) / 2
    weights = coefficients.T * scale[:, None]
    return weights.astype(np.float32), (intercept - mean @ weights).astype(np.float32)


def _means(features: NDArray[np.float32], labels: NDArray[np.int64], classes: int) -> NDArray[np.float16]:
    sums = np.zeros((classes, features.shape[1]))
    np.add.at(sums, labels, features)
    return (sums / np.bincount(labels, minlength=classes)[:, None]).astype(np.float16)
