"""The state of a training between updates: what Ctrl-C keeps and ``--resume`` takes up again."""

from __future__ import annotations

import json
import math
import warnings
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn
from torch.optim.lr_scheduler import LRScheduler, OneCycleLR

from model.errors import CheckpointError, SettingError
from model.network.architecture import OrganNetwork
from model.network.checkpoint import save_tensors
from model.training.recipes import Recipe


class TrainingState:
    """Network, optimizer and schedule, the best weights so far, and the number of updates made.

    It lies beside the model as ``<output>.training`` (safetensors) until the training ends.
    """

    def __init__(
        self,
        network: OrganNetwork,
        recipe: Recipe,
        classes: tuple[str, ...],
        seed: int,
        data: Mapping[str, Any],
        student_map: nn.Linear | None = None,
    ) -> None:
        self.network, self.recipe, self.seed, self.student_map = network, recipe, seed, student_map
        self.optimizer = _optimizer(self.parameters(), recipe)
        self.schedule: LRScheduler | None = None
        self.update = 0
        self.best: dict[str, Tensor] = {}
        self.best_epoch = 0
        self._best_score = (0, -math.inf, -math.inf)
        self._settings = json.loads(json.dumps([asdict(recipe), classes, seed, data]))

    def parameters(self) -> list[nn.Parameter]:
        """All that is trained: the network's weights, and those of the map to a teacher's features."""
        return [*self.network.parameters(), *(self.student_map.parameters() if self.student_map else ())]

    def prepare_schedule(self, total: int) -> None:
        """Make the learning-rate schedule over ``total`` updates, at the update reached."""
        if self.recipe.schedule != "one-cycle":
            return
        self.schedule = OneCycleLR(self.optimizer, self.recipe.learning_rate, total_steps=total + 1)
        with warnings.catch_warnings():
            # The updates of these steps were made before the interruption, not by this optimizer object.
            warnings.filterwarnings("ignore", "Detected call of", UserWarning)
            for _ in range(self.update):
                self.schedule.step()

    def keep_if_best(self, epoch: int, size: int, accuracy: float | None, loss: float | None) -> None:
        """Keep a copy of the weights if this epoch validates best among those that trained images of that size.

        An epoch of larger images comes before all of smaller ones; without validation the last epoch is kept.
        """
        score = (size, accuracy, -loss) if accuracy is not None and loss is not None else (size, float(epoch), 0.0)
        if score >= self._best_score:
            self._best_score, self.best_epoch = score, epoch
            self.best = {name: tensor.detach().cpu().clone() for name, tensor in self.network.state_dict().items()}

    def save(self, output: Path) -> None:
        """Write the state beside ``output``."""
        tensors = {f"network.{name}": tensor for name, tensor in self.network.state_dict().items()}
        if self.student_map:
            tensors |= {f"map.{name}": tensor for name, tensor in self.student_map.state_dict().items()}
        tensors |= {f"best.{name}": tensor for name, tensor in self.best.items()}
        for parameter, moments in self.optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer.{parameter}.{name}": tensor for name, tensor in moments.items()}
        values = {
            "update": self.update,
            "best_epoch": self.best_epoch,
            "best_score": self._best_score,
            "settings": self._settings,
        }
        save_tensors(_path(output), tensors, {"training": json.dumps(values)})

    def load(self, output: Path) -> None:
        """Take up the state that lies beside ``output``.

        Raises:
            CheckpointError: there is none, or it is damaged.
            SettingError: it belongs to other data, another recipe or another seed.
        """
        path = _path(output)
        try:
            with safe_open(path, framework="pt") as file:
                values = json.loads((file.metadata() or {})["training"])
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no mapping)
        except FileNotFoundError as error:
            raise CheckpointError(f"{path} does not exist: there is no training to resume") from error
        except (OSError, KeyError, SafetensorError) as error:
            raise CheckpointError(f"{path} is damaged: train anew, without --resume ({error})") from error
        if values["settings"] != self._settings:
            raise SettingError(f"{path} belongs to other data, another recipe or seed: train anew, without --resume")
        self.update, self.best_epoch = values["update"], values["best_epoch"]
        self._best_score = tuple(values["best_score"])
        self.network.load_state_dict(_part(tensors, "network."))
        if self.student_map:
            self.student_map.load_state_dict(_part(tensors, "map."))
        self.best = _part(tensors, "best.")
        parameters = self.optimizer.param_groups[0]["params"]
        moments: dict[int, dict[str, Tensor]] = {}
        for name, tensor in _part(tensors, "optimizer.").items():
            number, _, moment = name.partition(".")
            # The fused optimizer walks weights and moments side by side, so they must lie alike in memory.
            like = parameters[int(number)]
            laid = torch.empty_like(like).copy_(tensor) if tensor.shape == like.shape else tensor
            moments.setdefault(int(number), {})[moment] = laid
        self.optimizer.load_state_dict({**self.optimizer.state_dict(), "state": moments})

    def discard(self, output: Path) -> None:
        """Remove the state from disk: the training has ended."""
        _path(output).unlink(missing_ok=True)


def _path(output: Path) -> Path:
    return output.with_name(output.name + ".training")


def _part(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def _optimizer(parameters: list[nn.Parameter], recipe: Recipe) -> torch.optim.Optimizer:
    if recipe.optimizer == "sgd":
        return torch.optim.SGD(parameters, lr=recipe.learning_rate, weight_decay=recipe.weight_decay)
    return torch.optim.AdamW(parameters, lr=recipe.learning_rate, weight_decay=recipe.weight_decay, fused=True)
