"""Low-rank factors of the fully connected layers, chosen by what the layers put out for real images."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.linalg import eigh
from torch import Tensor, nn

from model.errors import SettingError
from model.network.architecture import OrganNetwork, scale
from model.network.checkpoint import CENTROIDS, fingerprint, load_network, save_checkpoint
from model.network.compression import compress
from model.network.embedder import Embedder
from model.network.layers import LAYERS
from model.network.metadata import Calibration
from model.network.preprocessing import BATCH, INPUT, batches, centre_crop
from model.network.ranges import activation_ranges
from model.training.augmentation import random_views
from model.training.calibrate import class_centroids
from model.training.evaluation import predict
from model.training.loading import joined, load_repository, require_every_class
from model.training.loop import TrainingResult
from model.training.measures import classification_measures
from model.training.repository import LabelledFile

DEFAULT_RANK = 512

VIEWS = 2
"""Random views of each image, beside its centre crop: outputs that the factors have to reproduce."""


def compress_checkpoint(
    source: Path,
    files: Sequence[LabelledFile],
    output: Path,
    *,
    rank: int,
    calibration: Calibration | None = None,
    seed: int = 0,
    workers: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> TrainingResult:
    """Write a compressed copy of a checkpoint, for distribution: with rank 512 it has 19 MB instead of 300.

    Args:
        source: the checkpoint.
        files: with their splits; the training part makes the factors, the test part is measured.
        output: where to write; loading it expands it into the ordinary network.
        rank: of the factors of FCL1-3.
        calibration: to be stored, instead of the source's own.
        seed: of the random views.
        workers: processes that decode.
        progress: told of batches done and of their number.

    Raises:
        CheckpointError: the source cannot be read, or the output not be written.
        RepositoryError: a class has no readable training image.
        SettingError: the rank is not from 1 to the network's width.
    """
    network, metadata = load_network(source)
    if not 1 <= rank <= network.width:
        raise SettingError(f"rank {rank} makes no sense: give one from 1 to {network.width}")
    parts, left_out = load_repository(files, metadata.classes, workers=workers)
    training = joined([parts["train"], parts["validation"]])
    require_every_class(training, metadata.classes, left_out)
    factors = factorise(network, training.images, rank, seed=seed, progress=progress)
    weights = {name: tensor.numpy() for name, tensor in network.state_dict().items()}
    stored = {name: torch.from_numpy(array) for name, array in compress(weights, factors).items()}
    calibration = calibration or metadata.calibration
    if calibration:
        stored[CENTROIDS] = torch.from_numpy(class_centroids(network, training))
    small = replace(
        metadata,
        fingerprint=fingerprint(stored, metadata.classes, calibration),
        calibration=calibration,
        rank=rank,
        ranges=activation_ranges(network, training.images),
        measures=None,
    )
    save_checkpoint(output, stored, small)
    measures = None
    if len(parts["test"]):
        predicted = predict(Embedder.load(output), parts["test"], ()).predicted
        measures = classification_measures(parts["test"].labels, predicted, metadata.classes)
        small = replace(small, measures=measures.to_json())
        save_checkpoint(output, stored, small)
    return TrainingResult(small, measures, tuple(left_out))


@torch.inference_mode()
def factorise(
    network: OrganNetwork,
    images: NDArray[np.uint8],
    rank: int,
    *,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, tuple[NDArray[np.float32], NDArray[np.float32]]]:
    """Replace FCL1-3 of ``network`` in place by products of factors; return these, by the name of the weight.

    A layer's outputs for the images vary in few directions. Their principal components U give the factors U and UᵀW of
    its weight, the best of their rank for these outputs, and the bias takes up the mean of what is cut off. The layers
    are done one after another, so that each makes up for those before it.

    Args:
        network: plain, in evaluation mode, on the processor.
        images: ``(n, 256, 256)`` uint8.
        rank: of the factors.
        seed: of the random views.
        progress: told of batches done and of their number.
    """
    steps, width = -(-len(images) // BATCH) * (1 + VIEWS), network.width
    factors = {}
    for turn, layer in enumerate(LAYERS):
        linear: nn.Linear = getattr(network, layer)
        total, squares, count = torch.zeros(width).double(), torch.zeros(width, width).double(), 0
        for done, batch in enumerate(_views(images, seed), turn * steps + 1):
            outputs = linear(_inputs(network, scale(batch), layer)).double()
            total += outputs.sum(0)
            squares.addmm_(outputs.T, outputs)
            count += len(outputs)
            if progress:
                progress(done, steps * len(LAYERS))
        mean = total / count
        covariance = (squares / count - torch.outer(mean, mean)).numpy()
        _, largest = eigh(covariance, overwrite_a=True, subset_by_index=[width - rank, width - 1])
        components = torch.from_numpy(largest)
        left, right = components.float(), (components.T @ linear.weight.double()).float()
        bias = linear.bias.double()
        linear.bias.copy_(mean + components @ (components.T @ (bias - mean)))
        linear.weight.copy_(left @ right)
        factors[f"{layer}.weight"] = (left.numpy(), right.numpy())
    return factors


def _views(images: NDArray[np.uint8], seed: int) -> Iterator[Tensor]:
    torch.manual_seed(seed)
    for batch in batches(images):
        yield torch.from_numpy(centre_crop(batch).copy())
        for _ in range(VIEWS):
            yield random_views(torch.from_numpy(batch.copy()), INPUT)


def _inputs(network: OrganNetwork, images: Tensor, layer: str) -> Tensor:
    """What the layer takes in."""
    outputs: Tensor = network.convolutional(images).flatten(1)
    for before in LAYERS[: LAYERS.index(layer)]:
        outputs = torch.relu(getattr(network, before)(outputs))
    return outputs
