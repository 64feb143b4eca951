"""Several networks that embed the same frames: see :mod:`model.network.joined`."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from model.errors import SettingError
from model.network.embedder import Embedder, Embeddings
from model.network.heads import describe_heads, of_length_one, own_heads
from model.network.joined import LAYER, members_of
from model.network.metadata import Metadata
from model.network.preparation import JoinedPreparation
from model.network.probe import describe_probe, has_probe, load_probe, naming_member

Features = dict[str, NDArray[np.float32]]


class JoinedEmbedder(Embedder):
    """As :class:`model.network.embedder.Embedder`; made by its ``load``.

    Its own probe names classes. Without one the first model that names any, by a probe or itself, names those of all.
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
        self.metadata, self.preparation = metadata, metadata.preparation
        self._path, self._loaded = path, {}
        self._own_heads, self.heads = own_heads(path), describe_heads(path)
        self.layers = metadata.layers | {name: head.values for name, head in self.heads.items()}
        own = probe and has_probe(path)
        self._naming = None if own else naming_member(members, probe=probe)
        self._probe = load_probe(path) if own else None
        if self._probe:
            self.probe = describe_probe(path)
            self.calibration, self.classes = self._probe.description.calibration, self._probe.description.classes
            self._centroids, self._compared = self._probe.centroids, self._probe.description.layer
        elif self._naming:
            named = self._members[self._naming]
            self.probe, self.calibration, self.classes = named.probe, named.calibration, named.classes

    def embed(self, images: NDArray[np.uint8], layers: Sequence[str] = ("fcl1",)) -> Embeddings:
        """Embed ``(n, bytes)`` uint8 images, as :attr:`preparation` makes them."""
        for layer in layers:
            if layer not in self.layers:
                raise SettingError(f"there is no layer {layer!r}: choose among {', '.join(self.layers)}")
        wanted = {*layers, *([self._compared] if self._probe else [])}
        heads = {layer: self._head(layer) for layer in wanted if layer in self._own_heads}
        mapped = {head.description.layer for head in heads.values()}
        features, named = self._embed_by_each(images, (wanted - heads.keys()) | mapped)
        features |= {layer: head(features[head.description.layer]) for layer, head in heads.items()}
        chosen = {layer: features[layer] for layer in layers}
        if self._probe:
            compared = features[self._compared]
            shares, known = self._judged(self._probe(compared), compared)
            return Embeddings(shares, chosen, known)
        assert named
        return Embeddings(named.probabilities, chosen, named.known)

    def _embed_by_each(self, images: NDArray[np.uint8], layers: Collection[str]) -> tuple[Features, Embeddings | None]:
        """Features by layer, and what the model that names the classes says, if one does."""
        assert isinstance(self.preparation, JoinedPreparation)
        features: Features = {}
        firsts: list[NDArray[np.float32]] = []
        named: Embeddings | None = None
        for (name, member), part in zip(self._members.items(), self.preparation.split(images), strict=True):
            first = next(iter(member.layers))
            own = {layer.removeprefix(f"{name}.") for layer in layers if layer.startswith(f"{name}.")}
            own |= {first} if LAYER in layers else set()
            if not own and name != self._naming:
                continue
            found = member.embed(part, tuple(own))
            features |= {f"{name}.{layer}": values for layer, values in found.features.items()}
            named = found if name == self._naming else named
            if LAYER in layers:
                firsts.append(of_length_one(found.features[first]))
        if firsts:
            features[LAYER] = np.concatenate(firsts, axis=1)
        return features, named
