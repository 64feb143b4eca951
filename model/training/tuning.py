"""Tuning an encoder: another program's network goes on learning, on labelled images of many sources.

A network of everyday photographs has learned how to look; what a scanner's pictures have in common it has not. Its last
layers, and a linear map behind them, learn directions: an image's has the direction of its class, whatever it comes
from (normalised softmax, Wang et al., NormFace, 2017). The map stays as a head, whose values are compared.
"""

from __future__ import annotations

import hashlib
import json
import math
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from model.errors import CheckpointError, ImageError, Interrupted, SettingError
from model.files import folder_made_whole
from model.network.encoder import EncoderDescription, read_encoder, write_encoder
from model.network.heads import DEFAULT_NAME, HeadDescription, head_path, save_head
from model.training.augmentation import random_colour_views
from model.training.degradations import degraded
from model.training.encoder_learner import RATES, EncoderLearner, planes
from model.training.loading import LabelledFrames, load_repository, require_every_class
from model.training.material import sources_of
from model.training.memory import keep_freed_memory
from model.training.repository import LabelledFile, listing_hash
from model.training.sampling import BalancedBatches

BATCH: Final = 64

WARM_UP: Final = 60
"""Updates in which the rates rise, or the first tenth; all the while they fall as a half cosine to nothing."""

SAVE_SECONDS: Final = 300.0
"""Between two times at which what was learned is kept."""

GREY_SPREAD: Final = 16
"""Largest difference between the channels of a picture that is grey, whatever its file says."""


@dataclass(frozen=True, slots=True)
class TuningStep:
    """Progress: running mean of the loss, and images a second since the start."""

    update: int
    updates: int
    loss: float
    images_per_second: float


@dataclass(frozen=True, slots=True)
class Tuned:
    """What tuning ends with.

    Attributes:
        encoder, head: as they were written.
        validation: share of the validation part whose nearest class is right; ``None`` where there is none.
        images: of the training and validation part.
        left_out: files that could not be read.
    """

    encoder: EncoderDescription
    head: HeadDescription
    validation: float | None
    images: tuple[int, int]
    left_out: tuple[ImageError, ...]


class TuningObserver:
    """Told of the progress; every method does nothing unless overridden."""

    def loaded(self, done: int, total: int) -> None:
        """``done`` of ``total`` files are decoded."""

    def step(self, step: TuningStep) -> None:
        """One update was made."""

    def stop(self) -> bool:
        """Whether to end after this update."""
        return False


def tune_encoder(
    folder: Path,
    files: Sequence[LabelledFile],
    target: Path,
    *,
    updates: int,
    dimensions: int,
    seed: int = 0,
    resume: bool = False,
    device: str = "cpu",
    workers: int = 0,
    observer: TuningObserver | None = None,
) -> Tuned:
    """Tune the encoder in ``folder`` on the training part, and write it to ``target``, with a head.

    Every update draws classes, and within them sources, evenly (:mod:`model.training.sampling`), and shows each image
    in another view, degraded as archives do (:mod:`model.training.degradations`). Statistics of batch normalisation
    stay as they are. On a processor equal files, seed and number of threads give equal weights.

    Args:
        folder: of an encoder that torch runs.
        files: with their splits.
        target: to make; it does not exist yet.
        updates: of :data:`BATCH` images each.
        dimensions: values that the head gives.
        seed: of order, views and dropout.
        resume: go on from what an interrupted tuning to the same ``target`` has kept.
        device: on which to train.
        workers: processes that decode.
        observer: told of the progress.

    Raises:
        SettingError: torch does not run the encoder, or the device cannot be used.
        RepositoryError: a class has no readable training image.
        Interrupted: the observer asked to stop; what was learned is kept beside ``target``, to be resumed.
        CheckpointError: the encoder cannot be read, there is nothing to resume, or something cannot be written.
    """
    observer = observer or TuningObserver()
    keep_freed_memory()
    encoder = read_encoder(folder)
    if encoder.kind == "onnx":
        raise SettingError(f"{folder} holds an ONNX file, which cannot be trained: import its network for torch")
    classes = tuple(sorted({file.label for file in files}))
    parts, left_out = load_repository(
        [file for file in files if file.split != "test"],
        classes,
        workers=workers,
        prepare=encoder.preparation,
        progress=observer.loaded,
    )
    training, validation = parts["train"], parts["validation"]
    require_every_class(training, classes, left_out)
    torch.manual_seed(seed)
    learner = EncoderLearner(folder, encoder, len(classes), dimensions, device)
    used = [file for file in files if file.split != "test"]
    values = [encoder.fingerprint, listing_hash(used), classes, dimensions, updates, seed]
    training_of = hashlib.sha256(json.dumps(values).encode()).hexdigest()
    state = _State(learner, target.with_name(f"{target.name}.tuning"), training_of)
    first = state.load() if resume else 0
    _train(state, training, sources_of(used, training), range(first, updates), seed, observer)
    right = learner.accuracy(validation) if len(validation) else None
    images = (len(training), len(validation))
    data = {"images": images[0], "classes": len(classes), "files": listing_hash(used), "tuned": updates, "seed": seed}
    try:
        with folder_made_whole(target) as partial:
            shutil.copytree(folder, partial, dirs_exist_ok=True, ignore=shutil.ignore_patterns("*.head.*", "*probe.*"))
            learner.save_network(partial / encoder.weights)
            source = f"{encoder.source}, tuned on {images[0]:,} images of {len(classes)} labels"
            described = write_encoder(partial, replace(encoder, source=source))
            head = save_head(head_path(partial, DEFAULT_NAME), learner.head(described, data))
    except OSError as error:
        raise CheckpointError(f"{target} cannot be written: {error.strerror or error}") from error
    state.path.unlink(missing_ok=True)
    return Tuned(described, head, right, images, tuple(left_out))


@dataclass(frozen=True, slots=True)
class _State:
    """What is learned, and the file in which that is kept."""

    learner: EncoderLearner
    path: Path
    training: str

    def load(self) -> int:
        return self.learner.load(self.path, self.training)

    def save(self, updates: int) -> None:
        try:
            self.learner.save(self.path, self.training, updates)
        except OSError as error:
            raise CheckpointError(f"{self.path} cannot be written: {error.strerror or error}") from error


def _train(
    state: _State,
    frames: LabelledFrames,
    sources: NDArray[np.int64],
    updates: range,
    seed: int,
    observer: TuningObserver,
) -> None:
    """Make the updates, and keep what is learned now and then.

    Raises:
        Interrupted: the observer asked to stop.
    """
    learner, drawing = state.learner, BalancedBatches(frames.labels, sources, BATCH)
    loss, started = 0.0, time.perf_counter()
    saved, warm_up = started, min(WARM_UP, updates.stop // 10 + 1)
    for number in updates:
        random = np.random.default_rng([seed, number])
        torch.manual_seed(seed * 1_000_003 + number)
        chosen = drawing.draw(random)
        for group, peak in zip(learner.optimizer.param_groups, RATES, strict=True):
            group["lr"] = peak * min(1.0, (number + 1) / warm_up) * (1 + math.cos(math.pi * number / updates.stop)) / 2
        views = _views(frames.images[chosen], random, learner.device)
        now = learner.update(views, torch.from_numpy(frames.labels[chosen]).to(learner.device))
        loss = now if number == updates.start else 0.98 * loss + 0.02 * now
        rate = (number + 1 - updates.start) * BATCH / (time.perf_counter() - started)
        observer.step(TuningStep(number + 1, updates.stop, loss, rate))
        stopped = observer.stop() and number + 1 < updates.stop
        if stopped or time.perf_counter() - saved > SAVE_SECONDS:
            state.save(number + 1)
            saved = time.perf_counter()
        if stopped:
            raise Interrupted(
                f"tuning was stopped after {number + 1:,} of {updates.stop:,} updates: go on with --resume"
            )


def _views(images: NDArray[np.uint8], random: np.random.Generator, device: torch.device) -> Tensor:
    """A random view of each of ``(n, *shape)`` prepared images, grey ones degraded: ``(n, channels, size, size)``."""
    images = images.copy()
    if images.ndim == 4:
        spread = np.ptp(images, axis=3).reshape(len(images), -1).max(1)
        for number in np.flatnonzero(spread <= GREY_SPREAD):
            images[number] = degraded(images[number, None, :, :, 0], random)[0][..., None]
    else:
        images = degraded(images, random)
    return random_colour_views(planes(images).to(device))
