"""Fitting a head: a linear map under which images of one class lie together (PCA, whitening within classes, LDA)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import eigh

from model.errors import ImageError, RepositoryError, SettingError
from model.network.embedder import Embedder
from model.network.heads import Head, HeadDescription
from model.training.evaluation import predict
from model.training.loading import joined, load_repository
from model.training.repository import LabelledFile, listing_hash

COMPONENTS = 1024
"""Principal components that are kept before the classes are looked at: fewer than most repositories have images."""

SHRINKAGE = 0.1
"""Share of a multiple of the identity in the covariance within classes, of which few images tell little."""


def fit_head(
    embedder: Embedder,
    files: Sequence[LabelledFile],
    *,
    name: str,
    layer: str,
    dimensions: int,
    normalised: bool = True,
    workers: int = 0,
    loaded: Callable[[int, int], None] | None = None,
    embedded: Callable[[int, int], None] | None = None,
) -> tuple[Head, list[ImageError]]:
    """Fit a head of a model on all of a repository's files; return it with the errors of the files left out.

    The labels need not be the model's classes: the more kinds of image they tell apart, the better.

    Args:
        embedder: the model.
        files: with their splits, which are not looked at.
        name: of the head.
        layer: that it maps, one of the model's own.
        dimensions: values that it gives.
        normalised: divide each vector by its length.
        workers: processes that decode.
        loaded: told how many of how many files are decoded.
        embedded: told how many of how many frames are embedded.

    Raises:
        RepositoryError, SettingError: as :func:`fit_projection`.
    """
    classes = tuple(sorted({file.label for file in files}))
    parts, left_out = load_repository(files, classes, workers=workers, prepare=embedder.preparation, progress=loaded)
    images = joined([part for part in parts.values() if len(part)])
    found = predict(embedder, images, (layer,), lambda done: embedded(done, len(images)) if embedded else None)
    mean, matrix = fit_projection(found.features[layer], found.labels, dimensions)
    data = {"images": len(images), "classes": len(classes), "files": listing_hash(files)}
    description = HeadDescription(name, layer, embedder.metadata.fingerprint, dimensions, normalised, data=data)
    return Head(description, mean, matrix), left_out


def fit_projection(
    features: NDArray[np.float32], labels: NDArray[np.int64], dimensions: int, *, shrinkage: float = SHRINKAGE
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """The mean and the matrix of a linear discriminant analysis with more directions than classes.

    The features' principal components are whitened by the covariance within the classes. Of what is left, the
    directions of largest variance are kept: first those between the classes, of which there is one fewer than classes,
    then those in which images differ whatever their class (Fisher 1936; Hastie et al., The Elements of Statistical
    Learning, section 4.3.3).

    Args:
        features: ``(n, values)``.
        labels: ``(n,)`` classes, numbered from 0.
        dimensions: of the projection.
        shrinkage: see :data:`SHRINKAGE`.

    Returns:
        ``(values,)`` and ``(values, dimensions)``, float32.

    Raises:
        SettingError: more dimensions are asked for than the images or features have.
        RepositoryError: no class has two images, or there is only one class.
    """
    counts = np.bincount(labels)
    if (counts > 0).sum() < 2 or counts.max(initial=0) < 2:
        raise RepositoryError("a head is fitted on two classes or more, with several images each: give more images")
    most = min(COMPONENTS, len(features) - 1, features.shape[1])
    if not 1 <= dimensions <= most:
        raise SettingError(
            f"--dimensions {dimensions}: {len(features):,} images of {features.shape[1]:,} values give from 1 to {most}"
        )
    mean = features.mean(axis=0, dtype=np.float64)
    centred = features - mean
    components = _largest(np.asarray(centred.T @ centred, np.float64), most)
    reduced = centred @ components
    centres = np.zeros((len(counts), most))
    np.add.at(centres, labels, reduced)
    centres /= np.maximum(counts, 1)[:, None]
    residuals = reduced - centres[labels]
    within = residuals.T @ residuals / len(residuals)
    within = (1 - shrinkage) * within + shrinkage * np.trace(within) / most * np.eye(most)
    scales, axes = eigh(within)
    whitening = axes / np.sqrt(scales)
    whitened = reduced @ whitening
    directions = _largest(whitened.T @ whitened, dimensions)
    matrix = components @ whitening @ directions
    return mean.astype(np.float32), matrix.astype(np.float32)


def _largest(scatter: NDArray[np.float64], count: int) -> NDArray[np.float64]:
    """The eigenvectors of the largest eigenvalues, largest first, as columns."""
    size = len(scatter)
    _, vectors = eigh(scatter, subset_by_index=[size - count, size - 1])
    return np.asarray(vectors[:, ::-1])
