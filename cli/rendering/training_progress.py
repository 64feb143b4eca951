"""A training's progress in the terminal, and its interruption by Ctrl-C."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from cli.interruption import on_interruption
from cli.rendering.progress import StageProgress

if TYPE_CHECKING:
    from model.training.loop import Observer
    from model.training.recipes import Recipe


def on_device(recipe: Recipe, device: str | None, precision: str | None) -> tuple[Recipe, str]:
    """The recipe with its precision, and the device: as asked for, or as the machine has it.

    Raises:
        SettingError: there is no such precision.
    """
    import torch

    from model.training.recipes import with_precision

    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    default = "bfloat16" if device.startswith("cuda") and recipe.name != "paper" else recipe.precision
    return with_precision(recipe, precision or default), device


class Stopping:
    """Whether Ctrl-C was pressed."""

    asked = False


@contextmanager
def interruptible(progress: StageProgress) -> Iterator[Stopping]:
    """The first Ctrl-C ends the training after its update, the second ends the program."""
    stopping = Stopping()

    def stop() -> None:
        if stopping.asked:
            raise KeyboardInterrupt
        stopping.asked = True
        progress.note("stopping after this update, and keeping what was learned (Ctrl-C again: at once)")

    with on_interruption(stop):
        yield stopping


def training_observer(progress: StageProgress, stopping: Stopping, prefix: str = "") -> Observer:
    """Show a training's progress; every note begins with ``prefix``."""
    from model.training.loop import Epoch, Observer, Step

    class TrainingProgress(Observer):
        def loaded(self, done: int, total: int) -> None:
            progress.update("decoding", done, total)

        def taught(self, done: int, total: int) -> None:
            progress.update("asking the teacher", done, total)

        def finishing(self, what: str) -> None:
            progress.note(f"{prefix}{what} …")

        def step(self, step: Step) -> None:
            done = (step.epoch - 1) * step.total + step.images
            note = f"{prefix}epoch {step.epoch}/{step.epochs} · loss {step.loss:.3f} · accuracy {step.accuracy:.1%}"
            progress.update("training", done, step.epochs * step.total, note)

        def epoch(self, epoch: Epoch) -> None:
            validation = (
                f", validation loss {epoch.validation_loss:.3f} accuracy {epoch.validation_accuracy:.1%}"
                if epoch.validation_accuracy is not None
                else ""
            )
            training = f"loss {epoch.loss:.3f} accuracy {epoch.accuracy:.1%}"
            progress.note(f"{prefix}epoch {epoch.number}: {training}{validation} ({epoch.seconds:.0f} s)")

        def stop(self) -> bool:
            return stopping.asked

    return TrainingProgress()
