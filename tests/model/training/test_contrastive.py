from __future__ import annotations

import math

import torch

from model.training.contrastive import TEMPERATURE, supervised_contrastive


def by_definition(features: torch.Tensor, labels: list[int]) -> float:
    """Khosla et al. 2020, eq. 2, pair by pair."""
    n = len(labels)
    distance = [[float((features[i] - features[j]).square().sum()) for j in range(n)] for i in range(n)]
    unit = sum(distance[i][j] for i in range(n) for j in range(n) if i != j) / (n * (n - 1))
    losses = []
    for i in range(n):
        alike = [p for p in range(n) if p != i and labels[p] == labels[i]]
        if alike:
            total = sum(math.exp(-distance[i][a] / (unit * TEMPERATURE)) for a in range(n) if a != i)
            shares = [math.exp(-distance[i][p] / (unit * TEMPERATURE)) / total for p in alike]
            losses.append(-sum(map(math.log, shares)) / len(alike))
    return sum(losses) / len(losses)


def test_the_loss_is_its_definition_whatever_the_features_scale() -> None:
    torch.manual_seed(0)
    features, labels = torch.rand(9, 5, dtype=torch.float64), [0, 0, 0, 1, 1, 2, 2, 2, 3]
    loss = supervised_contrastive(features, torch.tensor(labels))
    assert math.isclose(float(loss), by_definition(features, labels), rel_tol=1e-9)
    assert math.isclose(float(supervised_contrastive(features * 37, torch.tensor(labels))), float(loss), rel_tol=1e-9)


def test_following_it_draws_a_class_together() -> None:
    torch.manual_seed(0)
    features, labels = torch.rand(16, 8).requires_grad_(), torch.arange(16) % 4
    optimizer = torch.optim.SGD([features], lr=1.0)
    for _ in range(50):
        optimizer.zero_grad()
        supervised_contrastive(features, labels).backward()  # type: ignore[no-untyped-call] # torch leaves it untyped
        optimizer.step()
    distances = torch.cdist(features.detach(), features.detach())
    alike = labels[:, None] == labels[None, :]
    assert distances[alike].max() < distances[~alike].min()


def test_features_that_have_died_away_do_not_spoil_the_weights() -> None:
    """In units of nearly nothing gradients are nearly infinite; one that is makes every weight NaN, for good."""
    torch.manual_seed(0)
    for size in (1e-6, 1e-18, 1e-22, 1e-30, 0.0):
        features = (size * torch.rand(8, 4)).requires_grad_()
        loss = supervised_contrastive(features, torch.arange(8) % 4)
        loss.backward()  # type: ignore[no-untyped-call] # torch leaves it untyped
        assert torch.isfinite(loss)
        assert features.grad is not None
        assert features.grad.abs().max() < 1e5, size


def test_without_pairs_or_distances_it_is_zero_or_finite() -> None:
    assert float(supervised_contrastive(torch.rand(3, 4), torch.tensor([0, 1, 2]))) == 0
    same = torch.ones(4, 4, requires_grad=True)
    loss = supervised_contrastive(same, torch.tensor([0, 0, 1, 1]))
    loss.backward()  # type: ignore[no-untyped-call] # torch leaves it untyped
    assert torch.isfinite(loss)
    assert same.grad is not None
    assert torch.isfinite(same.grad).all()
