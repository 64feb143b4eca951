"""The embedder: network inputs in, class probabilities and features out, by torch or by OpenVINO."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from model.errors import CheckpointError, SettingError
from model.network.calibration import LAYER, probabilities, similarity
from model.network.checkpoint import read_centroids
from model.network.heads import Head, describe_heads, load_head
from model.network.metadata import Metadata, read_metadata
from model.network.runtimes import require_runtime

Run = Callable[[NDArray[np.uint8], Sequence[str]], tuple[NDArray[np.float32], dict[str, NDArray[np.float32]]]]
"""Outputs before the softmax ``(n, classes)`` and the features of the named layers of ``(n, 224, 224)`` images."""


@dataclass(frozen=True, slots=True)
class Embeddings:
    """What the network makes of ``n`` images.

    Attributes:
        probabilities: ``(n, classes)`` float32, each row summing to 1; of a model without classes ``(n, 0)``.
        features: by layer name, ``(n, values)`` float32: see :attr:`Embedder.layers`.
        known: ``(n,)``, whether each looks like one of the classes at all (:mod:`model.network.calibration`).
    """

    probabilities: NDArray[np.float32]
    features: dict[str, NDArray[np.float32]]
    known: NDArray[np.bool_]


class Embedder:
    """A trained network, ready to embed.

    Attributes:
        metadata: what the checkpoint says of itself; its ``classes`` name the columns of the probabilities.
        preparation: how frames become images for it.
        heads: of the model, by name.
        layers: how many values each layer gives, by name; heads among them.
    """

    def __init__(
        self, run: Run, metadata: Metadata, centroids: NDArray[np.float16] | None = None, path: Path | None = None
    ) -> None:
        self._run, self._centroids, self._path = run, centroids, path
        self._loaded: dict[str, Head] = {}
        self.metadata, self.preparation = metadata, metadata.preparation
        self.heads = describe_heads(path) if path else {}
        self.layers = metadata.layers | {name: head.values for name, head in self.heads.items()}

    @classmethod
    def load(
        cls, path: str | Path, *, device: str = "cpu", runtime: str = "torch", threads: int | None = None
    ) -> Embedder:
        """Load a model: a checkpoint, or an encoder's folder.

        Args:
            path: of the model.
            device: torch device; OpenVINO knows only ``cpu``.
            runtime: see :data:`model.network.runtimes.Runtime`.
            threads: of a processor; by default all of its cores.

        Raises:
            CheckpointError: it is missing, damaged, or of another version.
            SettingError: the device or the runtime cannot be used.
        """
        path = Path(path)
        metadata = read_metadata(path)
        if metadata.encoder:
            from model.encoders.loading import load_encoder

            return cls(load_encoder(path, metadata.encoder, device=device, threads=threads), metadata, path=path)
        require_runtime(runtime, path, metadata)
        centroids = read_centroids(path)
        if metadata.calibration and centroids is None:
            raise CheckpointError(f"{path} lacks the mean features by which it tells unknown images: train it anew")
        if runtime == "torch":
            from model.network.torch_runtime import load_torch

            return cls(*load_torch(path, device=device, threads=threads), centroids, path)
        if device != "cpu":
            raise SettingError(f"--runtime {runtime} computes on processors only, not on {device}: use --runtime torch")
        from model.network.openvino_runtime import load_openvino

        return cls(*load_openvino(path, integers=runtime == "openvino-int8", threads=threads), centroids, path)

    def embed(self, images: NDArray[np.uint8], layers: Sequence[str] = ("fcl1",)) -> Embeddings:
        """Embed ``(n, *shape)`` uint8 images, as :attr:`preparation` makes them.

        Raises:
            SettingError: there is no such layer.
        """
        for layer in layers:
            if layer not in self.layers:
                raise SettingError(f"there is no layer {layer!r}: choose among {', '.join(self.layers)}")
        if images.shape[1:] != self.preparation.shape:
            raise ValueError(f"the network takes images of shape {self.preparation.shape}, not {images.shape[1:]}")
        heads = {layer: self._head(layer) for layer in layers if layer in self.heads}
        needed = {*layers, *(head.description.layer for head in heads.values())} - heads.keys()
        calibration, centroids = self.metadata.calibration, self._centroids
        if calibration is None or centroids is None:
            logits, features = self._run(images, tuple(needed))
            known, temperature = np.ones(len(images), np.bool_), 1.0
        else:
            logits, features = self._run(images, tuple(needed | {LAYER}))
            known = similarity(logits, features[LAYER], centroids) >= calibration.threshold
            temperature = calibration.temperature
        features |= {layer: head(features[head.description.layer]) for layer, head in heads.items()}
        wanted = {layer: features[layer] for layer in layers}
        return Embeddings(probabilities(logits, temperature), wanted, known)

    def _head(self, name: str) -> Head:
        """A head of this model, loaded when it is first asked for."""
        if name not in self._loaded:
            assert self._path is not None
            self._loaded[name] = load_head(self._path, name)
        return self._loaded[name]
