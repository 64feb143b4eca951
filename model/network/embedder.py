"""The embedder: network inputs in, class probabilities and features out, by torch or by OpenVINO."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from model.errors import CheckpointError, SettingError
from model.network.calibration import LAYER, known_images, probabilities
from model.network.checkpoint import read_centroids
from model.network.heads import Head, default_layers, describe_heads, load_head
from model.network.metadata import Metadata, read_metadata
from model.network.probe import describe_probe, load_probe
from model.network.runtimes import choose_runtime, require_runtime

Run = Callable[[NDArray[np.uint8], Sequence[str]], tuple[NDArray[np.float32], dict[str, NDArray[np.float32]]]]
"""Takes prepared images ``(n, *shape)`` and layer names; returns outputs before the softmax ``(n, classes)``, and the
features ``(n, values)`` by layer."""


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
        metadata: what the checkpoint says of itself.
        classes: they name the columns of the probabilities: the probe's, if there is one, else the network's own.
        probe: description of the probe beside the model, which replaces the network's output layer, or ``None``.
        calibration: of the outputs; ``None`` if there is none, so that nothing is unknown.
        preparation: how frames become images for it.
        heads: of the model, by name.
        layers: how many values each layer gives, by name; heads among them.
    """

    def __init__(
        self,
        run: Run,
        metadata: Metadata,
        centroids: NDArray[np.float16] | None = None,
        path: Path | None = None,
        *,
        probe: bool = True,
    ) -> None:
        self._run, self._path = run, path
        self._loaded: dict[str, Head] = {}
        self.metadata, self.preparation = metadata, metadata.preparation
        self.heads = describe_heads(path) if path else {}
        self.layers = metadata.layers | {name: head.values for name, head in self.heads.items()}
        self.probe = describe_probe(path) if path and probe else None
        self._probe = load_probe(path) if path and self.probe else None
        self.classes = self.probe.classes if self.probe else metadata.classes
        self.calibration = self.probe.calibration if self.probe else metadata.calibration
        self._centroids = self._probe.centroids if self._probe else centroids
        self._compared = self.probe.layer if self.probe else LAYER

    @classmethod
    def load(
        cls,
        path: str | Path,
        *,
        device: str = "cpu",
        runtime: str = "torch",
        threads: int | None = None,
        probe: bool = True,
    ) -> Embedder:
        """Load a model: a checkpoint, an encoder's folder, or a folder that joins several.

        Args:
            path: of the model.
            device: torch device; OpenVINO knows only ``cpu``.
            runtime: see :data:`model.network.runtimes.Runtime`, or :data:`model.network.runtimes.AUTO`.
            threads: of a processor; by default all of its cores.
            probe: name classes by the probe beside the model, if there is one.

        Raises:
            CheckpointError: it is missing, damaged, or of another version.
            SettingError: the device or the runtime cannot be used.
        """
        path = Path(path)
        metadata = read_metadata(path)
        runtime = choose_runtime(runtime, metadata, device)
        if metadata.members:
            from model.network.joined_embedder import JoinedEmbedder

            require_runtime(runtime, path, metadata)
            return JoinedEmbedder(path, metadata, device=device, runtime=runtime, threads=threads, probe=probe)
        if metadata.encoder:
            from model.encoders.loading import load_encoder

            run = load_encoder(path, metadata.encoder, device=device, threads=threads)
            return cls(run, metadata, path=path, probe=probe)
        require_runtime(runtime, path, metadata)
        centroids = read_centroids(path)
        if metadata.calibration and centroids is None:
            raise CheckpointError(f"{path} lacks the mean features by which it tells unknown images: train it anew")
        if runtime == "torch":
            from model.network.torch_runtime import load_torch

            return cls(*load_torch(path, device=device, threads=threads), centroids, path, probe=probe)
        if device != "cpu":
            raise SettingError(f"--runtime {runtime} computes on processors only, not on {device}: use --runtime torch")
        from model.network.openvino_runtime import load_openvino

        integers = runtime == "openvino-int8"
        return cls(*load_openvino(path, integers=integers, threads=threads), centroids, path, probe=probe)

    @property
    def default_layers(self) -> tuple[str, ...]:
        """What a new index of the model stores where nothing is asked for: see :mod:`model.network.heads`."""
        return default_layers(self._path) if self._path else tuple(self.layers)[:1]

    def embed(self, images: NDArray[np.uint8], layers: Sequence[str] = ("fcl1",)) -> Embeddings:
        """Embed ``(n, *shape)`` uint8 images, as :attr:`preparation` makes them.

        Raises:
            SettingError: there is no such layer.
            ValueError: the images have another shape.
        """
        for layer in layers:
            if layer not in self.layers:
                raise SettingError(f"there is no layer {layer!r}: choose among {', '.join(self.layers)}")
        if images.shape[1:] != self.preparation.shape:
            raise ValueError(f"the network takes images of shape {self.preparation.shape}, not {images.shape[1:]}")
        calibration, centroids = self.calibration, self._centroids
        wanted = {*layers, *([self._compared] if self.probe or (calibration and centroids is not None) else [])}
        heads = {layer: self._head(layer) for layer in wanted if layer in self.heads}
        logits, features = self._run(
            images, tuple({head.description.layer for head in heads.values()} | wanted - heads.keys())
        )
        features |= {layer: head(features[head.description.layer]) for layer, head in heads.items()}
        if self._probe:
            logits = self._probe(features[self._compared])
        shares, known = self._judged(logits, features.get(self._compared))
        return Embeddings(shares, {layer: features[layer] for layer in layers}, known)

    def _judged(
        self, logits: NDArray[np.float32], compared: NDArray[np.float32] | None
    ) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """Probabilities of the outputs, and which images are known, by the features that are compared for that."""
        if self.calibration is None or self._centroids is None or compared is None:
            return probabilities(logits), np.ones(len(logits), np.bool_)
        known = known_images(self.calibration, logits, compared, self._centroids)
        return probabilities(logits, self.calibration.temperature), known

    def _head(self, name: str) -> Head:
        """A head of this model, loaded when it is first asked for."""
        if name not in self._loaded:
            assert self._path is not None
            self._loaded[name] = load_head(self._path, name)
        return self._loaded[name]
