"""Learning from a teacher: a generic encoder's features of the training images, which the network comes to give too.

A network that is trained on few images of few sources by their classes alone forgets all that does not part the
classes. A generic encoder, trained on a million photographs, keeps it. After Hinton et al. (2015), by features; and by
the similarities between them, after Park et al., Relational Knowledge Distillation (2019).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from model.errors import SettingError
from model.network.embedder import Embedder
from model.training.evaluation import predict
from model.training.loading import load_repository
from model.training.repository import LabelledFile

RELATIONS = 20.0
"""Weight of the similarities between images, beside that of each image's own features."""


@dataclass(frozen=True, slots=True)
class Lesson:
    """What a teacher says of the training part: ``(n, values)`` float16 of length 1, about their mean.

    The rows are those of :func:`model.training.loading.load_repository`'s training part of the same files.
    """

    fingerprint: str
    features: NDArray[np.float16]


def learn_from(
    teacher: Path,
    files: Sequence[LabelledFile],
    classes: Sequence[str],
    images: int,
    *,
    workers: int = 0,
    told: Callable[[int, int], None] | None = None,
) -> Lesson:
    """Ask a model of any kind, by its first layer.

    Args:
        teacher: the model.
        files: with their splits.
        classes: as for the training.
        images: of the training part, as it was loaded for the network.
        workers: processes that decode.
        told: how many of how many images the teacher has seen.

    Raises:
        SettingError: the teacher can read more or fewer images than are trained.
        CheckpointError: the teacher cannot be loaded.
    """
    embedder = Embedder.load(teacher)
    layer = next(iter(embedder.layers))
    training = [file for file in files if file.split == "train"]
    parts, _ = load_repository(training, classes, workers=workers, prepare=embedder.preparation)
    frames = parts["train"]
    if len(frames) != images:
        raise SettingError(f"--teacher {teacher}: it reads {len(frames):,} of {images:,} training images: name another")
    seen = (lambda done: told(done, len(frames))) if told else None
    features = _unit(predict(embedder, frames, (layer,), seen).features[layer])
    return Lesson(embedder.metadata.fingerprint, _unit(features - features.mean(0)).astype(np.float16))


def _unit(features: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.asarray(features / np.linalg.norm(features, axis=1, keepdims=True).clip(1e-12), np.float32)


def distillation(features: Tensor, student_map: nn.Linear, taught: Tensor) -> Tensor:
    """How far the mapped features are from the teacher's, and the similarities between images from the teacher's.

    Args:
        features: ``(n, width)`` float32, of the network.
        student_map: from the network's features to the teacher's, trained with the network and then forgotten.
        taught: ``(n, values)`` float32, of length 1.

    Returns:
        A scalar: 0 where all are equal.
    """
    mapped = nn.functional.normalize(student_map(features))
    alone = (1 - (mapped * taught).sum(1)).mean()
    own = nn.functional.normalize(features - features.mean(0))
    relations = nn.functional.mse_loss(own @ own.T, taught @ taught.T)
    return 2 * alone + RELATIONS * relations
