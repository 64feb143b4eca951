"""Training an organ network: the loop, its validation, its interruption and its resumption."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from model.errors import ImageError, RepositoryError, TrainingInterrupted
from model.network.architecture import OrganNetwork, fold, initialise, plain, scale
from model.network.calibration import UNKNOWN
from model.network.checkpoint import CENTROIDS, fingerprint, save_checkpoint
from model.network.devices import to_device
from model.network.layers import FEATURES
from model.network.metadata import Calibration, Metadata, read_metadata
from model.network.preprocessing import INPUT, batches, centre_crop
from model.network.ranges import activation_ranges
from model.training.augmentation import random_views
from model.training.calibrate import calibrate_network
from model.training.contrastive import supervised_contrastive
from model.training.degradations import degraded
from model.training.distillation import distillation, learn_from
from model.training.fine_tuning import begin_with
from model.training.loading import LabelledFrames, load_repository, require_every_class
from model.training.material import Batch, Material
from model.training.measures import ClassificationMeasures, classification_measures
from model.training.recipes import Recipe
from model.training.repository import LabelledFile, listing_hash
from model.training.state import TrainingState

SAVE_SECONDS = 30.0
"""Least time between two writes of the training's state (1.2 GB) at the ends of epochs; an interruption writes it."""


@dataclass(frozen=True, slots=True)
class Step:
    """Progress within an epoch: running means since its start."""

    epoch: int
    epochs: int
    images: int
    total: int
    loss: float
    accuracy: float
    images_per_second: float


@dataclass(frozen=True, slots=True)
class Epoch:
    """A finished epoch; validation figures are ``None`` where there is no validation part."""

    number: int
    loss: float
    accuracy: float
    validation_loss: float | None
    validation_accuracy: float | None
    seconds: float


@dataclass(frozen=True, slots=True)
class TrainingResult:
    """What training ends with; ``measures`` are of the test part, ``None`` where it is empty."""

    metadata: Metadata
    measures: ClassificationMeasures | None
    left_out: tuple[ImageError, ...]


class Observer:
    """Told of the training's progress; every method does nothing unless overridden."""

    def loaded(self, done: int, total: int) -> None:
        """``done`` of ``total`` files are decoded."""

    def taught(self, done: int, total: int) -> None:
        """The teacher has seen ``done`` of ``total`` images."""

    def finishing(self, what: str) -> None:
        """The updates are made, and this is done now."""

    def step(self, step: Step) -> None:
        """One update was made."""

    def epoch(self, epoch: Epoch) -> None:
        """One epoch has ended."""

    def stop(self) -> bool:
        """Whether to end after this update and keep what was learned."""
        return False


def train(
    files: Sequence[LabelledFile],
    recipe: Recipe,
    output: Path,
    *,
    seed: int = 0,
    resume: bool = False,
    start: Path | None = None,
    teacher: Path | None = None,
    width: int = FEATURES,
    device: str = "cpu",
    workers: int = 0,
    observer: Observer | None = None,
) -> TrainingResult:
    """Train on the ``train`` part, choose the best epoch on ``validation``, measure on ``test``, and write ``output``.

    The validation part then also calibrates the network, if it has enough images (:mod:`model.network.calibration`).

    On CPU, equal files, recipe, seed and number of threads give equal weights, interrupted and resumed or not: order,
    augmentation and dropout of every update are seeded by its number.

    Args:
        files: with their splits.
        recipe: how to train.
        output: the checkpoint to write; the training's state lies beside it.
        seed: of the training.
        resume: go on from the state that an interrupted training left.
        start: a checkpoint whose weights to begin with, but for the output layer where the classes are others.
        teacher: a model whose features are learned too, if the recipe says so.
        width: of FCL1-3; that of ``start``, if one is given.
        device: on which to train.
        workers: processes that decode.
        observer: told of the progress.

    Raises:
        RepositoryError: a class has no readable training image, or is called unknown.
        TrainingInterrupted: the observer asked to stop; ``output`` and its training state are written.
        SettingError: the device cannot be used, ``resume`` is asked with other data, recipe or seed, or ``start`` with
            a recipe that normalises by batch.
        CheckpointError: there is no training state to resume, or a file cannot be written.
    """
    observer = observer or Observer()
    classes = tuple(sorted({file.label for file in files}))
    if UNKNOWN in classes:
        raise RepositoryError(f"no class can be called {UNKNOWN!r}, which is what looks like none: rename it")
    width = read_metadata(start).width if start else width
    network, origin = _new_network(classes, recipe, seed, width, start)
    network = to_device(network, device)
    parts, left_out = load_repository(files, classes, workers=workers, progress=observer.loaded)
    require_every_class(parts["train"], classes, left_out)
    lesson = None
    if teacher and recipe.distillation:
        lesson = learn_from(teacher, files, classes, len(parts["train"]), workers=workers, told=observer.taught)
    material = Material.of(files, parts["train"], lesson)
    data = {
        "images": {split: len(part) for split, part in parts.items()},
        "left_out": len(left_out),
        "files": listing_hash(files),
        **({"from": origin} if origin else {}),
        **({"teacher": lesson.fingerprint} if lesson else {}),
        **({"width": width} if width != FEATURES else {}),
    }
    student_map = nn.Linear(width, lesson.features.shape[1]).to(device) if lesson else None
    state = TrainingState(network, recipe, classes, seed, data, student_map)
    if resume:
        state.load(output)

    updates_an_epoch = -(-len(parts["train"]) // recipe.batch_size)
    state.prepare_schedule(updates_an_epoch * recipe.epochs)

    def write(
        measures: ClassificationMeasures | None = None,
        ranges: Mapping[str, float] | None = None,
        calibrated: tuple[Calibration, NDArray[np.float16]] | None = None,
    ) -> Metadata:
        weights = fold(state.best or {name: tensor.detach().cpu() for name, tensor in network.state_dict().items()})
        calibration, centroids = calibrated or (None, None)
        if centroids is not None:
            weights[CENTROIDS] = torch.from_numpy(centroids)
        metadata = Metadata(
            classes=classes,
            fingerprint=fingerprint(weights, classes, calibration),
            recipe=asdict(recipe),
            data=data,
            measures=measures.to_json() if measures else None,
            epoch=state.best_epoch,
            seed=seed,
            ranges=ranges or {},
            calibration=calibration,
            width=width,
        )
        save_checkpoint(output, weights, metadata)
        return metadata

    saved = time.monotonic()
    while state.update < updates_an_epoch * recipe.epochs:
        finished = _train_epoch(state, material, parts["validation"], updates_an_epoch, observer)
        if not finished or time.monotonic() - saved > SAVE_SECONDS:
            state.save(output)
            saved = time.monotonic()
        if not finished:
            write()
            epoch = state.update // updates_an_epoch
            small = recipe.size_at(epoch) < INPUT
            caution = ", from small images only, so that it is of little use yet" if small else ""
            raise TrainingInterrupted(
                f"training was stopped in epoch {epoch + 1} of {recipe.epochs}; {output} holds what was "
                f"learned{caution}: go on with --resume"
            )
    if state.best:
        network.load_state_dict(state.best)
    observer.finishing("measuring on the test part")
    measures = _evaluate(network, parts["test"], classes)
    observer.finishing("recording the ranges of activations, and calibrating")
    ranges = activation_ranges(plain(network), parts["train"].images)
    calibrated = calibrate_network(network, parts["train"], parts["validation"])
    metadata = write(measures, ranges, calibrated)
    state.discard(output)
    return TrainingResult(metadata, measures, tuple(left_out))


def _new_network(
    classes: tuple[str, ...], recipe: Recipe, seed: int, width: int, start: Path | None
) -> tuple[OrganNetwork, str | None]:
    """A network to train, and the fingerprint of the one that it begins with."""
    torch.manual_seed(seed)
    network = OrganNetwork(len(classes), normalise=recipe.normalise, width=width)
    initialise(network, recipe.initialisation)
    return network, begin_with(network, start, classes, recipe) if start else None


def _train_epoch(
    state: TrainingState, material: Material, validation: LabelledFrames, updates_an_epoch: int, observer: Observer
) -> bool:
    """Make the epoch's remaining updates and validate; False if the observer stopped it before its end."""
    recipe, network, frames = state.recipe, state.network, material.frames
    epoch, first = divmod(state.update, updates_an_epoch)
    size = recipe.size_at(epoch)
    batches = material.batches(recipe, np.random.default_rng([state.seed, epoch]), updates_an_epoch)
    started, images, loss_sum, hits = time.perf_counter(), 0, 0.0, 0
    network.train()
    for place in range(first, updates_an_epoch):
        chosen = np.sort(batches[place])
        torch.manual_seed(state.seed * 1_000_003 + state.update)
        loss, right = _update(state, material.batch(chosen), size)
        state.update += 1
        images, loss_sum, hits = images + len(chosen), loss_sum + loss * len(chosen), hits + right
        done = sum(map(len, batches[: place + 1]))
        rate = images / (time.perf_counter() - started)
        observer.step(Step(epoch + 1, recipe.epochs, done, len(frames), loss_sum / images, hits / images, rate))
        if observer.stop() and state.update % updates_an_epoch:
            return False
    validation_loss, validation_accuracy = _validate(network, validation, size)
    state.keep_if_best(epoch + 1, size, validation_accuracy, validation_loss)
    seconds = time.perf_counter() - started
    observer.epoch(Epoch(epoch + 1, loss_sum / images, hits / images, validation_loss, validation_accuracy, seconds))
    return not (observer.stop() and epoch + 1 < recipe.epochs)


def _update(state: TrainingState, batch: Batch, size: int) -> tuple[float, int]:
    """One update; return the mean loss and how many images were predicted right."""
    recipe, device = state.recipe, next(state.network.parameters()).device
    images = batch.images
    if recipe.across_sources:
        images = degraded(images, np.random.default_rng([state.seed, state.update]))
    pixels = torch.from_numpy(images if recipe.augment else centre_crop(images).copy()).to(device)
    target = torch.from_numpy(batch.labels).to(device)
    state.optimizer.zero_grad(set_to_none=True)
    views = scale(random_views(pixels, size) if recipe.augment else pixels)
    with torch.autocast(device.type, torch.bfloat16, enabled=recipe.precision == "bfloat16"):
        logits, features = state.network.features(views, ("fcl1",))
    log_probabilities = torch.log_softmax(logits, dim=1)
    # Of log-probabilities, cross entropy is the negative log-likelihood: log-softmax leaves them as they are.
    loss = nn.functional.cross_entropy(log_probabilities, target, label_smoothing=recipe.label_smoothing)
    if recipe.contrastive:
        sources = torch.from_numpy(batch.sources).to(device) if recipe.across_sources else None
        loss = loss + recipe.contrastive * supervised_contrastive(features["fcl1"].float(), target, sources)
    if state.student_map and batch.taught is not None:
        taught = torch.from_numpy(batch.taught).to(device, torch.float32)
        loss = loss + recipe.distillation * distillation(features["fcl1"].float(), state.student_map, taught)
    loss.backward()  # type: ignore[no-untyped-call] # torch leaves it untyped
    if recipe.clip:
        nn.utils.clip_grad_norm_(state.parameters(), recipe.clip)
    state.optimizer.step()
    if state.schedule:
        state.schedule.step()
    return float(loss.detach()), int((log_probabilities.argmax(1) == target).sum())


@torch.inference_mode()
def _logits(network: OrganNetwork, images: NDArray[np.uint8], size: int = INPUT) -> NDArray[np.float32]:
    network.eval()
    device = next(network.parameters()).device
    outputs = []
    for batch in batches(images):
        inputs = scale(torch.from_numpy(centre_crop(batch).copy()).to(device))
        if size != INPUT:
            inputs = nn.functional.interpolate(inputs, (size, size), mode="bilinear", antialias=True)
        outputs.append(network.features(inputs, ())[0].cpu().numpy())
    return np.concatenate(outputs)


def _validate(network: OrganNetwork, frames: LabelledFrames, size: int) -> tuple[float | None, float | None]:
    """Loss and accuracy at the size that is trained: a network is lost at a size that it has not seen yet."""
    if not len(frames):
        return None, None
    logits = _logits(network, frames.images, size)
    loss = nn.functional.cross_entropy(torch.from_numpy(logits), torch.from_numpy(frames.labels))
    return float(loss), float((logits.argmax(1) == frames.labels).mean())


def _evaluate(network: OrganNetwork, frames: LabelledFrames, classes: Sequence[str]) -> ClassificationMeasures | None:
    if not len(frames):
        return None
    predicted = _logits(network, frames.images).argmax(1)
    return classification_measures(frames.labels, predicted, classes)
