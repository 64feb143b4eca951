"""k-fold cross-validation on the training part (paper section 4.3)."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from model.errors import CheckpointError, RepositoryError, SettingError
from model.files import written_whole
from model.network.layers import FEATURES
from model.training.loop import Observer, train
from model.training.measures import ClassificationMeasures, ClassMeasures
from model.training.recipes import Recipe
from model.training.repository import LabelledFile, folds_by_group, listing_hash
from model.training.sources import SplitBy, folds_by_source


@dataclass(frozen=True, slots=True)
class Fold:
    """One fold: trained on the others, measured on this one; ``left_out`` says of each unreadable file why."""

    number: int
    measures: ClassificationMeasures
    left_out: tuple[str, ...] = ()


def cross_validate(
    files: Sequence[LabelledFile],
    recipe: Recipe,
    folder: Path,
    *,
    folds: int = 10,
    by: SplitBy = "group",
    seed: int = 0,
    teacher: Path | None = None,
    width: int = FEATURES,
    device: str = "cpu",
    workers: int = 0,
    observer: Callable[[int], Observer] | None = None,
) -> Iterator[Fold]:
    """Train once for each fold without it, and measure on it; give each fold as it is done.

    Folds are stratified by label. What is done is kept in ``folder`` as ``fold-01.json``, and the
    model in training beside it: the same call goes on after an interruption, at the update where it was stopped.

    Args:
        files: the training part; their splits are not looked at.
        recipe: of every training; the last epoch is taken, as nothing is set aside to choose a better one.
        folder: made if it does not exist.
        folds: at least 2.
        by: whether folds hold whole groups or whole sources; the only source of a class is then in none.
        seed: of folds and trainings.
        teacher: as for :func:`model.training.loop.train`.
        width: of FCL1-3.
        device: on which to train.
        workers: processes that decode.
        observer: makes the observer of a fold's training, by its number from 1.

    Raises:
        SettingError: the number of folds cannot be made, or the folder holds folds of other files or settings.
        RepositoryError: a fold leaves a class without a training image.
        TrainingInterrupted: the observer asked to stop.
    """
    settings = _settings(files, recipe, folds, seed, width)
    settings |= {"by": by} if by != "group" else {}
    settings |= {"teacher": str(teacher)} if teacher else {}
    _settle(folder, settings)
    divide = folds_by_source if by == "source" else folds_by_group
    for number, held_out in enumerate(divide(files, folds, seed=seed), 1):
        done = folder / f"fold-{number:02}.json"
        if not done.exists():
            parts = [replace(f, split="test" if n in held_out else "train") for n, f in enumerate(files)]
            model = folder / f"fold-{number:02}.safetensors"
            result = train(
                parts,
                recipe,
                model,
                seed=seed,
                teacher=teacher,
                width=width,
                resume=model.with_name(model.name + ".training").exists(),
                device=device,
                workers=workers,
                observer=observer(number) if observer else None,
            )
            if result.measures is None:
                raise RepositoryError(f"no image of fold {number} could be read")
            values = result.measures.to_json() | {"left_out": list(map(str, result.left_out))}
            with written_whole(done) as partial:
                partial.write_text(json.dumps(values))
            model.unlink()
        yield _read(number, done)


def all_left_out(folds: Sequence[Fold]) -> list[str]:
    """What any fold could not read, once each."""
    return sorted({text for fold in folds for text in fold.left_out})


def summary(folds: Sequence[Fold]) -> dict[str, tuple[float, float]]:
    """Mean and standard deviation over the folds of accuracy, AP, AR and F1, by the names of their attributes."""
    names = ("accuracy", "average_precision", "average_recall", "f1")
    values = {name: [getattr(fold.measures, name) for fold in folds] for name in names}
    return {name: (float(np.mean(of_folds)), float(np.std(of_folds, ddof=1))) for name, of_folds in values.items()}


def pooled_confusion(folds: Sequence[Fold]) -> tuple[tuple[int, ...], ...]:
    """Sum of the folds' confusion matrices, ``(classes, classes)`` counts, true class by row."""
    return tuple(map(tuple, np.sum([fold.measures.confusion for fold in folds], axis=0).tolist()))


def _settings(files: Sequence[LabelledFile], recipe: Recipe, folds: int, seed: int, width: int) -> dict[str, Any]:
    values = {"files": listing_hash(files), "recipe": asdict(recipe), "folds": folds, "seed": seed}
    if width != FEATURES:
        values["width"] = width
    return dict(json.loads(json.dumps(values)))


def _settle(folder: Path, settings: dict[str, Any]) -> None:
    """Tie a folder to one cross-validation."""
    path = folder / "cross-validation.json"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            with written_whole(path) as partial:
                partial.write_text(json.dumps(settings))
        elif json.loads(path.read_text()) != settings:
            raise SettingError(f"{folder} holds folds of other files or settings: name another")
    except (OSError, ValueError) as error:
        raise SettingError(f"{folder} cannot be used for the folds: {error}") from error


def _read(number: int, path: Path) -> Fold:
    try:
        values = json.loads(path.read_text())
        left_out = tuple(values.pop("left_out", ()))
        classes = tuple(ClassMeasures(**one) for one in values.pop("classes"))
        confusion = tuple(map(tuple, values.pop("confusion")))
        return Fold(number, ClassificationMeasures(**values, classes=classes, confusion=confusion), left_out)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"{path} is damaged: delete it, and the fold is trained again ({error})") from error
