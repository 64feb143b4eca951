"""Checkpoints of full-size networks that nobody has trained."""

from __future__ import annotations

from pathlib import Path

from tests.support import phantoms


def make_model(path: Path, *, seed: int, classes: tuple[str, ...] = tuple(phantoms.ORGANS)) -> Path:
    """Write an untrained checkpoint."""
    import torch

    from model.network.architecture import OrganNetwork, initialise
    from model.network.checkpoint import fingerprint, save_checkpoint
    from model.network.metadata import Metadata

    torch.manual_seed(seed)
    network = OrganNetwork(len(classes))
    initialise(network, "he")
    weights = network.state_dict()
    save_checkpoint(path, weights, Metadata(classes=classes, fingerprint=fingerprint(weights, classes)))
    return path
