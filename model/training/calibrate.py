"""Mean features of the classes, and the calibration of a network by held-out images."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray

from model.network import calibration
from model.network.architecture import OrganNetwork, scale
from model.network.calibration import LAYER
from model.network.metadata import Calibration
from model.network.preprocessing import batches, centre_crop
from model.training.loading import LabelledFrames


def class_centroids(network: OrganNetwork, frames: LabelledFrames) -> NDArray[np.float16]:
    """``(classes, width)``: the mean FCL1 feature of each class's images; zeros where it has none."""
    classes = network.output.out_features
    sums, counts = np.zeros((classes, network.width)), np.zeros(classes)
    for (_, features), labels in zip(_outputs(network, frames), batches(frames.labels), strict=True):
        np.add.at(sums, labels, features)
        np.add.at(counts, labels, 1)
    return (sums / np.maximum(counts, 1)[:, None]).astype(np.float16)


def calibrate_network(
    network: OrganNetwork, training: LabelledFrames, held_out: LabelledFrames
) -> tuple[Calibration, NDArray[np.float16]] | None:
    """Temperature and threshold by the held-out images, with the training images' centroids; ``None`` of too few."""
    if len(held_out) < calibration.LEAST_IMAGES:
        return None
    centroids = class_centroids(network, training)
    outputs = list(_outputs(network, held_out))
    logits, features = (np.concatenate(parts) for parts in zip(*outputs, strict=True))
    return calibration.calibrate(logits, features, held_out.labels, centroids), centroids


@torch.inference_mode()
def _outputs(
    network: OrganNetwork, frames: LabelledFrames
) -> Iterator[tuple[NDArray[np.float32], NDArray[np.float32]]]:
    """Outputs before the softmax, and FCL1 features, of the images' centre crops, batch by batch."""
    network.eval()
    device = next(network.parameters()).device
    for batch in batches(frames.images):
        images = torch.from_numpy(centre_crop(batch).copy()).to(device)
        logits, features = network.features(scale(images), (LAYER,))
        yield logits.cpu().numpy(), features[LAYER].cpu().numpy()
