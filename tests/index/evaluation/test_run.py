from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from index.evaluation.run import Evaluation, EvaluationSettings, evaluate_model
from model.errors import RepositoryError
from model.network.embedder import Embedder
from model.training.repository import LabelledFile
from tests.support import phantoms

FEW = EvaluationSettings(layers=("fcl1",), searches=(True,))


def file(folder: Path, organ: str, number: int, split: str, group: str | None = None) -> LabelledFile:
    path = folder / f"{organ}-{number}.png"
    Image.fromarray((phantoms.draw(organ, number, 64) * 255).astype(np.uint8)).save(path)
    return LabelledFile(path, organ, group or str(path), split)  # type: ignore[arg-type] # one of the three


def evaluate(files: list[LabelledFile], model_path: Path, settings: EvaluationSettings = FEW) -> Evaluation:
    return evaluate_model(Embedder.load(model_path), files, settings)


def test_both_protocols_and_equal_bits_twice(tmp_path: Path, model_path: Path) -> None:
    files = [file(tmp_path, organ, n, "train") for organ in ("brain", "knee", "eye") for n in range(4)]
    files += [file(tmp_path, organ, n, "test", "one patient") for organ in ("brain", "knee") for n in range(4, 6)]
    first, second = evaluate(files, model_path), evaluate(files, model_path)
    assert np.array_equal(first.image_predictions.features["fcl1"], second.image_predictions.features["fcl1"])
    assert np.array_equal(first.predictions.probabilities, second.predictions.probabilities)
    training, without_group = (first.retrieval[0], first.retrieval[2])
    assert (training.setting.protocol, without_group.setting.protocol) == ("training images", "leave group out")
    assert training.rankings.shape == (4, 12)
    # All test images are of one group, so that the database of every query is the training images, too.
    assert without_group.mean_average_precision == pytest.approx(training.mean_average_precision)
    assert [row[row >= 0].tolist() for row in without_group.rankings] == training.rankings.tolist()
    assert first.queries.names[0] == "brain-4.png"
    assert np.array_equal(first.images.frames.images[first.training], first.queries.frames.images[0])


def test_the_notes_name_what_limits_the_figures(tmp_path: Path, model_path: Path) -> None:
    files = [file(tmp_path, organ, n, "train") for organ in ("brain", "eye") for n in range(3)]
    files += [file(tmp_path, "brain", 4, "test"), file(tmp_path, "knee", 1, "test")]
    twin = tmp_path / "twin.png"
    twin.write_bytes(files[0].path.read_bytes())
    broken = tmp_path / "broken.png"
    broken.write_bytes(twin.read_bytes()[:60])
    files += [LabelledFile(twin, "brain", "twin", "test"), LabelledFile(broken, "eye", "broken", "test")]
    found = evaluate(files, model_path)
    notes = "\n".join(found.notes)
    assert "another list of images" in notes
    assert "Without a test image, so not in the means over the classes: abdomen, breast, chest, eye." in notes
    assert "Without a training image" in notes
    assert "knee." in notes
    assert "1 test images equal a training image pixel by pixel: twin.png and brain-0.png." in notes
    assert "1 files could not be read" in notes
    assert [error.path for error in found.left_out] == [str(broken)]
    training = found.retrieval[0]
    assert training.queries == 2  # the knee has no relevant image
    figures = [training.mean_average_precision, *training.precision.values(), *training.recall.values()]
    measures = found.classification.measures
    figures += [measures.accuracy, measures.f1, found.classification.calibration_error]
    assert not np.isnan(figures).any()


def test_what_cannot_be_evaluated_is_said(tmp_path: Path, model_path: Path) -> None:
    brain = [file(tmp_path, "brain", n, "train") for n in range(2)]
    with pytest.raises(RepositoryError, match="no image of the test part"):
        evaluate(brain, model_path)
    stranger = LabelledFile(brain[0].path, "tail", "x", "test")
    with pytest.raises(RepositoryError, match="does not know the class 'tail'"):
        evaluate([*brain, stranger], model_path)
    only_test = [file(tmp_path, "brain", n, "test") for n in range(3, 6)]
    training = EvaluationSettings(layers=("fcl1",), protocols=("training images",))
    with pytest.raises(RepositoryError, match="no training image to search among"):
        evaluate(only_test, model_path, training)
    assert {one.setting.protocol for one in evaluate(only_test, model_path).retrieval} == {"leave group out"}
