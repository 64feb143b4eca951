"""An encoder while it learns: what of it is trained, by which loss, and how that is kept and gone on from."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from model.encoders.torch_networks import PooledNetwork, encoder_network
from model.errors import CheckpointError, SettingError
from model.files import written_whole
from model.network.devices import to_device
from model.network.encoder import EncoderDescription
from model.network.heads import DEFAULT_NAME, Head, HeadDescription
from model.training.loading import LabelledFrames

AT_ONCE: Final = 16
"""Images that go through the network at once."""

STEEPNESS: Final = 16.0
"""By which cosines between images and classes, -1 to 1, become logits."""

SMOOTHING: Final = 0.05

DROPOUT: Final = 0.2

RATES: Final = (4e-4, 2e-3)
"""Peaks of the learning rates: of the network, and of what is new behind it."""

WEIGHT_DECAY: Final = 1e-2

FIXED_SHARE: Final = 0.2
"""Of the network's weights: its first layers stay as they are, as edges are edges, and cost half the time."""

_MOMENTS: Final = ("exp_avg", "exp_avg_sq")
"""What AdamW keeps of each weight."""


class EncoderLearner:
    """A network, the map behind it and the directions of the classes, with what trains them.

    Args:
        folder: of the encoder.
        encoder: what is known of it.
        classes: how many.
        dimensions: values that the map gives.
        device: on which to train.

    Attributes:
        device: the same.
        network: the encoder's.
        optimizer: of the network's trained weights, and of what is new behind it.
    """

    def __init__(self, folder: Path, encoder: EncoderDescription, classes: int, dimensions: int, device: str) -> None:
        self.network: Any
        self.network, output = encoder_network(folder / encoder.weights, encoder)
        self._pooled = to_device(PooledNetwork(self.network, output, encoder.pooling).eval(), device)
        self.device, self.preparation = torch.device(device), encoder.preparation
        self._map = nn.Linear(encoder.values, dimensions, bias=False).to(device)
        self._directions = nn.Parameter(torch.randn(classes, dimensions, device=device) * 0.05)
        scale = torch.tensor([self.preparation.mean, self.preparation.std], device=device)
        self._mean, self._std = (row.reshape(1, -1, 1, 1) * 255 for row in scale)
        self.optimizer = torch.optim.AdamW(
            [
                {"params": self._trained(), "lr": RATES[0]},
                {"params": [*self._map.parameters(), self._directions], "lr": RATES[1]},
            ],
            weight_decay=WEIGHT_DECAY,
        )

    def _trained(self) -> list[nn.Parameter]:
        """The weights that are trained: those that matter to the features, but for the first :data:`FIXED_SHARE`."""
        side = self.preparation.size
        self._pooled(torch.zeros(1, self.preparation.channels, side, side, device=self.device)).sum().backward()
        used = [one for one in self.network.parameters() if one.grad is not None]
        self.network.zero_grad(set_to_none=True)
        self.network.requires_grad_(False)
        passed = np.cumsum([one.numel() for one in used])
        trained = [one for one, sofar in zip(used, passed, strict=True) if sofar > FIXED_SHARE * passed[-1]]
        for one in trained:
            one.requires_grad_(True)
        return trained

    def cosines(self, views: Tensor, *, dropout: float = 0.0) -> Tensor:
        """Between images ``(n, channels, size, size)``, 0…255, and classes."""
        features = self._pooled(((views - self._mean) / self._std).contiguous(memory_format=torch.channels_last))
        mapped = self._map(nn.functional.dropout(features, dropout))
        return nn.functional.normalize(mapped) @ nn.functional.normalize(self._directions).T

    def update(self, views: Tensor, labels: Tensor) -> float:
        """Learn from one batch; return its loss. It goes through in parts, which a processor's caches hold."""
        self.optimizer.zero_grad(set_to_none=True)
        total = 0.0
        for start in range(0, len(views), AT_ONCE):
            part = slice(start, start + AT_ONCE)
            logits = STEEPNESS * self.cosines(views[part], dropout=DROPOUT)
            losses = nn.functional.cross_entropy(logits, labels[part], label_smoothing=SMOOTHING, reduction="sum")
            loss = losses / len(views)
            loss.backward()  # type: ignore[no-untyped-call] # torch leaves it untyped
            total += float(loss.detach())
        for group in self.optimizer.param_groups:
            nn.utils.clip_grad_norm_(group["params"], 1.0)
        self.optimizer.step()
        return total

    @torch.inference_mode()
    def accuracy(self, frames: LabelledFrames) -> float:
        """Share of the frames whose nearest class is right."""
        right = 0
        for start in range(0, len(frames), AT_ONCE):
            views = planes(frames.images[start : start + AT_ONCE]).to(self.device, torch.float32)
            predicted = self.cosines(views).argmax(1).cpu().numpy()
            right += int((predicted == frames.labels[start : start + AT_ONCE]).sum())
        return right / len(frames)

    def save(self, path: Path, training: str, updates: int) -> None:
        """Keep what was learned by so many updates of a training, to go on from."""
        tensors: dict[str, Tensor] = {}
        for number, one in enumerate(self._parameters()):
            moments = self.optimizer.state[one]
            for name, tensor in (("", one), *((name, moments[name]) for name in _MOMENTS)):
                tensors[f"{number}.{name}"] = tensor.detach().cpu().contiguous()
        with written_whole(path) as partial:
            save_file(tensors, partial, {"training": training, "updates": str(updates)})

    def load(self, path: Path, training: str) -> int:
        """Go on from what was kept; return the number of its updates.

        Raises:
            CheckpointError: nothing was kept, or it is damaged.
            SettingError: it is of another training.
        """
        try:
            with safe_open(path, framework="pt") as file:
                kept = file.metadata() or {}
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no mapping)
        except FileNotFoundError as error:
            raise CheckpointError(f"{path} does not exist: there is no tuning to resume") from error
        except (SafetensorError, OSError) as error:
            raise CheckpointError(f"{path} is damaged: tune anew, without --resume ({error})") from error
        if kept.get("training") != training:
            raise SettingError(
                f"{path} belongs to other images, settings or another encoder: tune anew, without --resume"
            )
        updates = int(kept["updates"])
        with torch.no_grad():
            for number, one in enumerate(self._parameters()):
                one.copy_(tensors[f"{number}."])
                moments = {name: tensors[f"{number}.{name}"].to(self.device) for name in _MOMENTS}
                self.optimizer.state[one] = {"step": torch.tensor(float(updates)), **moments}
        return updates

    def _parameters(self) -> list[nn.Parameter]:
        return [one for group in self.optimizer.param_groups for one in group["params"]]

    def save_network(self, weights: Path) -> None:
        """Write its weights as they came: a safetensors file, or a folder of transformers."""
        network = self.network.cpu()
        if weights.is_dir():
            network.save_pretrained(weights)
        else:
            save_file({name: tensor.contiguous() for name, tensor in network.state_dict().items()}, weights)

    def head(self, encoder: EncoderDescription, data: dict[str, Any]) -> Head:
        """The map, as a head of the encoder."""
        matrix = self._map.weight.detach().cpu().numpy().T.astype(np.float32)
        described = HeadDescription(
            DEFAULT_NAME, encoder.layer, encoder.fingerprint, matrix.shape[1], normalised=True, data=data
        )
        return Head(described, np.zeros(len(matrix), np.float32), np.ascontiguousarray(matrix))


def planes(images: NDArray[np.uint8]) -> Tensor:
    """``(n, size, size[, channels])`` as ``(n, channels, size, size)``."""
    planes = images[:, None] if images.ndim == 3 else np.moveaxis(images, 3, 1)
    return torch.from_numpy(np.ascontiguousarray(planes))
