from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from model.errors import SettingError, TrainingInterrupted
from model.training import loop
from model.training.contrastive import supervised_contrastive
from model.training.distillation import distillation, learn_from
from model.training.loop import Observer
from model.training.recipes import recipe
from model.training.repository import LabelledFile, read_repository, split_repository
from tests.support import phantoms
from tests.support.models import NARROW

train = partial(loop.train, width=NARROW)
FEW = replace(recipe("scanners", epochs=2), batch_size=8, sizes=((0.0, 96), (0.5, 224)))


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> list[LabelledFile]:
    folder = tmp_path_factory.mktemp("repository")
    phantoms.write_repository(folder, images=6, side=64)
    return split_repository(read_repository(folder), seed=0)


def test_it_is_nothing_where_the_teacher_is_copied_and_falls_by_learning() -> None:
    torch.manual_seed(0)
    taught = nn.functional.normalize(torch.randn(32, 16))
    taught = nn.functional.normalize(taught - taught.mean(0))
    same = nn.Linear(16, 16, bias=False)
    nn.init.eye_(same.weight)
    assert distillation(taught - taught.mean(0), same, taught).item() < 0.2
    features, student_map = torch.randn(32, 24, requires_grad=True), nn.Linear(24, 16)
    optimizer = torch.optim.Adam([features, *student_map.parameters()], lr=0.05)
    losses = []
    for _ in range(200):
        optimizer.zero_grad()
        loss = distillation(features, student_map, taught)
        loss.backward()  # type: ignore[no-untyped-call] # torch leaves it untyped
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.05 < losses[0]


def test_images_of_one_source_are_not_drawn_together_where_there_are_others() -> None:
    labels = torch.tensor([0, 0, 0, 1, 1])
    sources = torch.tensor([0, 0, 1, 2, 2])
    features = torch.randn(5, 8, generator=torch.Generator().manual_seed(0), requires_grad=True)
    (seeing,) = torch.autograd.grad(supervised_contrastive(features, labels, sources), features)
    (blind,) = torch.autograd.grad(supervised_contrastive(features, labels), features)
    assert not torch.allclose(seeing, blind)
    # Whatever the two of source 0 are to each other, the third of their class, of source 1, is what they are drawn to.
    apart = torch.tensor([[0.0, 1], [9.0, 9], [0.0, 1.1], [5.0, 0], [5.0, 0.1]])
    together = torch.tensor([[0.0, 1], [0.0, 1], [0.0, 1.1], [5.0, 0], [5.0, 0.1]])
    assert float(supervised_contrastive(together, labels, sources)) < float(
        supervised_contrastive(apart, labels, sources)
    )


def test_a_training_with_a_teacher_is_interrupted_and_resumed(
    repository: list[LabelledFile], model_path: Path, tmp_path: Path
) -> None:
    class Watch(Observer):
        updates, seen = 0, 0

        def taught(self, done: int, total: int) -> None:
            self.seen = done
            assert done <= total

        def stop(self) -> bool:
            self.updates += 1
            return self.updates == 2

    watch = Watch()
    with pytest.raises(TrainingInterrupted):
        train(repository, FEW, tmp_path / "parts", teacher=model_path, observer=watch)
    assert watch.seen >= 20
    result = train(repository, FEW, tmp_path / "parts", teacher=model_path, resume=True)
    train(repository, FEW, tmp_path / "whole", teacher=model_path)
    parts, whole = load_file(tmp_path / "parts"), load_file(tmp_path / "whole")
    assert all(torch.equal(whole[name], parts[name]) for name in whole)
    assert not any(name.startswith("map") for name in whole)  # the map to the teacher's features is forgotten
    assert result.metadata.data["teacher"]
    train(repository, FEW, tmp_path / "alone")
    assert not torch.equal(load_file(tmp_path / "alone")["fcl1.weight"], whole["fcl1.weight"])


def test_a_teacher_that_reads_other_images_is_refused(repository: list[LabelledFile], model_path: Path) -> None:
    classes = sorted({file.label for file in repository})
    with pytest.raises(SettingError, match="training images: name another"):
        learn_from(model_path, repository, classes, 3)
