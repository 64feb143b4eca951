from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from model.errors import CheckpointError, SettingError, TrainingInterrupted
from model.training.cross_validation import cross_validate, pooled_confusion, summary
from model.training.loop import Observer
from model.training.recipes import recipe
from model.training.repository import LabelledFile, read_repository
from tests.support import phantoms
from tests.support.models import NARROW

FEW = replace(recipe("fast", epochs=2), batch_size=8, sizes=((0.0, 96),))


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[LabelledFile]:
    folder = tmp_path_factory.mktemp("repository")
    for organ in ("chest", "knee"):
        (folder / organ).mkdir()
        for number in range(6):
            ds = phantoms.dicom([phantoms.draw(organ, number, 64)], organ, number)
            ds.save_as(folder / organ / str(number), enforce_file_format=True)
    return read_repository(folder)


class Stop(Observer):
    def stop(self) -> bool:
        return True


def test_every_image_is_held_out_once_and_an_interruption_costs_nothing(
    files: list[LabelledFile], tmp_path: Path
) -> None:
    folds = list(cross_validate(files, FEW, tmp_path / "folds", folds=2, width=NARROW))
    assert [fold.number for fold in folds] == [1, 2]
    assert np.sum(pooled_confusion(folds)) == len(files)
    mean, spread = summary(folds)["accuracy"]
    accuracies = [fold.measures.accuracy for fold in folds]
    assert mean == pytest.approx(np.mean(accuracies))
    assert spread == pytest.approx(np.std(accuracies, ddof=1))
    assert not list((tmp_path / "folds").glob("*.safetensors*"))

    def stops_in_the_second(number: int) -> Observer:
        return Stop() if number == 2 else Observer()

    interrupted = cross_validate(files, FEW, tmp_path / "parts", folds=2, width=NARROW, observer=stops_in_the_second)
    assert next(interrupted) == folds[0]
    with pytest.raises(TrainingInterrupted):
        next(interrupted)

    def watched(number: int) -> Observer:
        assert number > 1  # the first fold is not trained again
        return Observer()

    assert list(cross_validate(files, FEW, tmp_path / "parts", folds=2, width=NARROW, observer=watched)) == folds


def test_a_folder_belongs_to_one_cross_validation(files: list[LabelledFile], tmp_path: Path) -> None:
    once = replace(FEW, epochs=1)
    next(cross_validate(files, once, tmp_path, folds=2, width=NARROW))
    with pytest.raises(SettingError, match="other files or settings"):
        next(cross_validate(files, once, tmp_path, folds=2, width=NARROW, seed=1))
    (tmp_path / "fold-01.json").write_text("{}")
    with pytest.raises(CheckpointError, match=r"fold-01\.json is damaged"):
        next(cross_validate(files, once, tmp_path, folds=2, width=NARROW))
