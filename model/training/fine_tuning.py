"""Beginning a training with the weights of a trained network."""

from __future__ import annotations

from pathlib import Path

from model.errors import SettingError
from model.network.architecture import OrganNetwork
from model.network.checkpoint import load_network
from model.training.recipes import Recipe


def begin_with(network: OrganNetwork, start: Path, classes: tuple[str, ...], recipe: Recipe) -> str:
    """Take over a checkpoint's weights, without those of the output layer if its classes are others.

    Returns:
        The checkpoint's fingerprint.

    Raises:
        SettingError: the recipe normalises by batch.
        CheckpointError: the checkpoint cannot be read.
    """
    if recipe.normalise:
        raise SettingError(
            f"recipe {recipe.name} normalises by batch, which a trained network has no more: take --recipe fine-tune"
        )
    trained, metadata = load_network(start)
    weights = trained.state_dict()
    if metadata.classes != classes:
        weights = {name: tensor for name, tensor in weights.items() if not name.startswith("output.")}
    network.load_state_dict(weights, strict=False)
    return metadata.fingerprint
