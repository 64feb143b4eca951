"""The supervised contrastive loss that draws images of one class together where they will be compared."""

from __future__ import annotations

import torch
from torch import Tensor

TEMPERATURE = 0.1
"""In units of the batch's mean squared distance."""


LEAST_UNIT = 1e-6
"""Mean squared distance below which it is the unit itself. Features of any network that learns are far beyond it; in
units of those that have died away the gradient would be infinite."""


def supervised_contrastive(features: Tensor, labels: Tensor, sources: Tensor | None = None) -> Tensor:
    """The loss of Khosla et al. (2020, eq. 2), with squared Euclidean distances in place of cosines.

    A plain classifier asks of FCL1 only that the layers after it can tell the classes apart; retrieval compares FCL1
    itself, by Euclidean distance. Distances are taken in units of the batch's mean, so that the loss neither blows the
    features up nor lets them shrink.

    Args:
        features: ``(n, width)``, after ReLU.
        labels: ``(n,)`` class numbers. An image that is alone of its class in the batch has no share in the loss.
        sources: ``(n,)`` numbers of what the images come from. Two of one class and one source are then neither drawn
            together nor told apart, where the batch has others of the class: they are alike by more than they show.

    Returns:
        A scalar; 0 where no two images are of one class.
    """
    others = ~torch.eye(len(labels), dtype=torch.bool, device=labels.device)
    alike = labels.unsqueeze(0).eq(labels.unsqueeze(1)) & others
    squares = features.square().sum(1)
    distances = (squares.unsqueeze(0) + squares.unsqueeze(1) - 2 * features @ features.T).clamp_min(0)
    if sources is not None:
        elsewhere = alike & sources.unsqueeze(0).ne(sources.unsqueeze(1))
        has = elsewhere.any(1, keepdim=True)
        others = others & ~(alike & ~elsewhere & has)
        alike = torch.where(has, elsewhere, alike)
    unit = distances[others].mean().detach().clamp_min(LEAST_UNIT)
    closeness = (-distances / (unit * TEMPERATURE)).masked_fill(~others, -torch.inf)
    log_share = (closeness - closeness.logsumexp(1, keepdim=True)).masked_fill(~alike, 0)
    counts = alike.sum(1)
    anchors = counts > 0
    return -(log_share.sum(1) / counts.clamp_min(1)).sum() / anchors.sum().clamp_min(1)
