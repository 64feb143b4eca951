"""A trained model evaluated on a labelled repository: classification and retrieval, as in the paper's section 4."""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from index.evaluation.retrieval import Protocol, RetrievalResult, RetrievalSetting, evaluate_retrieval
from model.errors import ImageError, RepositoryError
from model.network.metadata import Metadata
from model.network.preparation import PAPER
from model.training.evaluation import classification_result, predict
from model.training.loading import joined, load_repository
from model.training.repository import LabelledFile, listing_hash

if TYPE_CHECKING:
    from model.network.embedder import Embedder
    from model.training.evaluation import ClassificationResult, Predictions
    from model.training.loading import LabelledFrames

PROTOCOLS: tuple[Protocol, ...] = ("training images", "leave group out")


@dataclass(frozen=True, slots=True)
class EvaluationSettings:
    """What to measure.

    Attributes:
        layers: whose features are compared.
        protocols: see :data:`index.evaluation.retrieval.Protocol`.
        searches: ``True`` for an exact search, ``False`` for one through the graph; by default both are made.
        seed: of the resampling.
        workers: processes that decode; 0 decodes here.
    """

    layers: tuple[str, ...] = ("fcl1", "fcl2", "fcl3")
    protocols: tuple[Protocol, ...] = PROTOCOLS
    searches: tuple[bool, ...] = (True, False)
    seed: int = 0
    workers: int = 0


class EvaluationObserver:
    """Told of an evaluation's progress; does nothing unless overridden."""

    def loaded(self, done: int, total: int) -> None:
        """``done`` of ``total`` files are decoded."""

    def embedded(self, done: int, total: int) -> None:
        """``done`` of ``total`` frames are embedded."""

    def ranked(self, setting: RetrievalSetting, done: int, total: int) -> None:
        """The database is ranked for ``done`` of ``total`` queries."""


@dataclass(frozen=True, slots=True)
class Gallery:
    """The images of one part, to be shown: their pixels, and what they are called.

    Attributes:
        frames: pixels, with the files they are of.
        names: ``(n,)`` path below the repository, with the frame where a file has several.
    """

    frames: LabelledFrames
    names: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What an evaluation finds.

    Attributes:
        metadata: of the model.
        queries: the test images, with ``predictions``.
        images: every image, training part first, then the test images; of the first protocol's database only the
            first ``training`` of them.
        classification: of the test images.
        retrieval: one result for each way to search.
        notes: what limits the figures, in sentences.
        left_out: files that could not be read.
    """

    metadata: Metadata
    queries: Gallery
    predictions: Predictions
    images: Gallery
    image_predictions: Predictions
    training: int
    classification: ClassificationResult
    retrieval: tuple[RetrievalResult, ...]
    notes: tuple[str, ...]
    left_out: tuple[ImageError, ...]


def evaluate_model(
    embedder: Embedder,
    files: Sequence[LabelledFile],
    settings: EvaluationSettings = EvaluationSettings(),
    observer: EvaluationObserver | None = None,
) -> Evaluation:
    """Classify the test images, and search for each among the others.

    Args:
        embedder: the model.
        files: with their splits, as :func:`model.training.repository.split_test` gives them; the validation part is
            counted to the training part.
        settings: what to measure.
        observer: told of the progress.

    Raises:
        RepositoryError: a label is none of the model's classes, no test image can be read, or there is nothing to
            search among.
    """
    observer = observer or EvaluationObserver()
    classes = embedder.classes
    if unknown := sorted({file.label for file in files} - set(classes)):
        raise RepositoryError(f"the model does not know the class {unknown[0]!r}: it knows {', '.join(classes)}")
    parts, left_out = load_repository(files, classes, workers=settings.workers, progress=observer.loaded)
    if not len(parts["test"]):
        raise RepositoryError("no image of the test part could be read: nothing can be evaluated")
    images = joined([parts[split] for split in ("train", "validation", "test") if len(parts[split])])
    inputs = images if embedder.preparation == PAPER else _prepared(embedder, files, settings, observer)
    everything = predict(embedder, inputs, settings.layers, lambda done: observer.embedded(done, len(images)))
    training = len(images) - len(parts["test"])
    queries, database = everything[training:], everything[:training]
    groups = np.unique([files[number].group for number in images.files], return_inverse=True)[1]

    retrieval: list[RetrievalResult] = []
    for protocol in settings.protocols:
        among = database if protocol == "training images" else everything
        if not len(among):
            continue
        own = _group_members(groups, training) if protocol == "leave group out" else None
        retrieval += evaluate_retrieval(
            queries,
            among,
            classes,
            protocol,
            settings.layers,
            dot_layers=embedder.metadata.dot_layers,
            searches=settings.searches,
            left_out=own,
            seed=settings.seed,
            progress=lambda setting, done: observer.ranked(setting, done, len(queries)),
        )
    if not retrieval:
        raise RepositoryError("there is no training image to search among: ask for the protocol leave-group-out")
    names = _names(files, images)
    return Evaluation(
        metadata=(metadata := _described(embedder)),
        queries=Gallery(parts["test"], names[training:]),
        predictions=queries,
        images=Gallery(images, names),
        image_predictions=everything,
        training=training,
        classification=classification_result(queries, classes, seed=settings.seed),
        retrieval=tuple(retrieval),
        notes=tuple(_notes(metadata, files, database, queries, images, names, len(left_out))),
        left_out=tuple(left_out),
    )


def _prepared(
    embedder: Embedder, files: Sequence[LabelledFile], settings: EvaluationSettings, observer: EvaluationObserver
) -> LabelledFrames:
    """The same images as the network takes them, which are not those that people look at."""
    parts, _ = load_repository(
        files,
        embedder.classes,
        workers=settings.workers,
        prepare=embedder.preparation,
        progress=observer.loaded,
    )
    return joined([parts[split] for split in ("train", "validation", "test") if len(parts[split])])


def _described(embedder: Embedder) -> Metadata:
    """What the model says of itself; with a probe, the classes, calibration and data of that."""
    described = replace(embedder.metadata, classes=embedder.classes, calibration=embedder.calibration)
    return replace(described, data=embedder.probe.data) if embedder.probe else described


def _group_members(groups: NDArray[np.int64], training: int) -> list[NDArray[np.int64]]:
    """For each test image the positions of all images of its group, itself among them."""
    order = np.argsort(groups, kind="stable")
    starts = np.searchsorted(groups[order], np.arange(groups.max() + 2))
    return [order[starts[group] : starts[group + 1]] for group in groups[training:]]


def _names(files: Sequence[LabelledFile], images: LabelledFrames) -> tuple[str, ...]:
    common = os.path.commonpath([file.path.parent for file in files])
    frames = Counter(images.files.tolist())
    return tuple(
        os.path.relpath(files[file].path, common) + (f" (frame {number})" if frames[file] > 1 else "")
        for file, number in zip(images.files.tolist(), images.numbers.tolist(), strict=True)
    )


def _notes(
    metadata: Metadata,
    files: Sequence[LabelledFile],
    database: Predictions,
    queries: Predictions,
    images: LabelledFrames,
    names: Sequence[str],
    left_out: int,
) -> list[str]:
    classes, notes = metadata.classes, []

    def named(numbers: NDArray[np.int64]) -> str:
        return ", ".join(classes[number] for number in numbers)

    if metadata.data.get("files") != listing_hash(files):
        notes.append(
            "The model was trained on another list of images than this one, or on another split of it: whether test "
            "images are among those that it was trained on is not known."
        )
    tested, held = (np.bincount(part.labels, minlength=len(classes)) for part in (queries, database))
    if len(absent := np.flatnonzero(tested == 0)):
        notes.append(f"Without a test image, so not in the means over the classes: {named(absent)}.")
    if len(alone := np.flatnonzero((tested > 0) & (held == 0))):
        notes.append(
            f"Without a training image, so not among the queries whose retrieval from the training images counts: "
            f"{named(alone)}."
        )
    never = np.bincount(queries.predicted, minlength=len(classes)) == 0
    if len(never := np.flatnonzero((tested > 0) & never)):
        notes.append(f"Never predicted for a test image, so of precision 0: {named(never)}.")
    if metadata.calibration:
        unknown_tests, unknown_training = (int((~part.known).sum()) for part in (queries, database))
        notes.append(
            f"Taken for none of the classes, and so searched for without class prediction: {unknown_tests:,} test "
            f"images; not to be found with it: {unknown_training:,} training images."
        )
    if left_out:
        notes.append(f"{left_out:,} files could not be read and are not counted.")
    if len(files) > 1 and all(file.group == str(file.path) for file in files):
        notes.append("The repository names no groups: images of one patient may be on both sides of the split.")
    if twins := _identical(images, len(database.labels)):
        shown = "; ".join(f"{names[test]} and {names[other]}" for test, other in twins[:5])
        notes.append(f"{len(twins):,} test images equal a training image pixel by pixel: {shown}.")
    return notes


def _identical(images: LabelledFrames, training: int) -> list[tuple[int, int]]:
    """Test images that equal a training image after resizing, with that image."""
    digests = [hashlib.blake2b(image.tobytes(), digest_size=16).digest() for image in images.images]
    first = {digest: number for number, digest in reversed(list(enumerate(digests[:training])))}
    return [(n, first[digest]) for n, digest in enumerate(digests[training:], training) if digest in first]
