"""Several networks that embed the same frames: see :mod:`model.network.joined`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from model.errors import SettingError
from model.network.embedder import Embedder, Embeddings
from model.network.heads import describe_heads
from model.network.joined import members_of
from model.network.metadata import Metadata
from model.network.preparation import JoinedPreparation
from model.network.probe import naming_member


class JoinedEmbedder(Embedder):
    """As :class:`model.network.embedder.Embedder`; made by its ``load``.

    The first model that names classes, by a probe or itself, names those of all.
    """

    def __init__(
        self, path: Path, metadata: Metadata, *, device: str, runtime: str, threads: int | None, probe: bool
    ) -> None:
        members = members_of(path)
        self._members = {
            name: Embedder.load(
                member,
                device=device,
                runtime="torch" if metadata.members[name].encoder else runtime,
                threads=threads,
                probe=probe,
            )
            for name, member in members.items()
        }
        self._naming = naming_member(members, probe=probe)
        named = self._members[self._naming]
        self.metadata, self.preparation = metadata, metadata.preparation
        self.heads = describe_heads(path)
        self.layers = metadata.layers | {name: head.values for name, head in self.heads.items()}
        self.probe, self.calibration, self.classes = named.probe, named.calibration, named.classes

    def embed(self, images: NDArray[np.uint8], layers: Sequence[str] = ("fcl1",)) -> Embeddings:
        """Embed ``(n, bytes)`` uint8 images, as :attr:`preparation` makes them."""
        for layer in layers:
            if layer not in self.layers:
                raise SettingError(f"there is no layer {layer!r}: choose among {', '.join(self.layers)}")
        assert isinstance(self.preparation, JoinedPreparation)
        features: dict[str, NDArray[np.float32]] = {}
        predicted: Embeddings | None = None
        for (name, member), part in zip(self._members.items(), self.preparation.split(images), strict=True):
            own = [layer.removeprefix(f"{name}.") for layer in layers if layer.startswith(f"{name}.")]
            if own or name == self._naming:
                found = member.embed(part, own)
                features |= {f"{name}.{layer}": values for layer, values in found.features.items()}
                predicted = found if name == self._naming else predicted
        assert predicted
        return Embeddings(predicted.probabilities, {layer: features[layer] for layer in layers}, predicted.known)
