from __future__ import annotations

import torch

from model.network.architecture import OrganNetwork, fold, initialise


def test_the_network_is_that_of_the_paper() -> None:
    with torch.device("meta"):
        network = OrganNetwork(24)
    shapes = {name: tuple(p.shape) for name, p in network.named_parameters() if name.endswith("weight")}
    assert shapes == {
        "convolutional.cvl1.weight": (64, 1, 11, 11),
        "convolutional.cvl2.weight": (192, 64, 5, 5),
        "convolutional.cvl3.weight": (384, 192, 5, 5),
        "convolutional.cvl4.weight": (256, 384, 3, 3),
        "convolutional.cvl5.weight": (256, 256, 3, 3),
        "fcl1.weight": (4096, 9216),
        "fcl2.weight": (4096, 4096),
        "fcl3.weight": (4096, 4096),
        "output.weight": (24, 4096),
    }
    assert round(sum(p.numel() for p in network.parameters()) / 1e6, 1) == 75.0


def test_features_come_after_relu_and_without_dropout() -> None:
    torch.manual_seed(0)
    network = OrganNetwork(3)
    initialise(network, "he")
    images = torch.randn(2, 1, 224, 224)
    network.eval()
    log_probabilities, (logits, features) = network(images), network.features(images, ("fcl1", "fcl3"))
    assert list(features) == ["fcl1", "fcl3"]
    assert all(f.shape == (2, 4096) and f.min() >= 0 for f in features.values())
    assert torch.allclose(log_probabilities.exp().sum(1), torch.ones(2))
    assert torch.allclose(log_probabilities, torch.log_softmax(logits, 1))
    assert torch.allclose(logits, network.output(features["fcl3"]))
    network.train()
    assert torch.equal(network.features(images, ("fcl1",))[1]["fcl1"], features["fcl1"])


def test_the_papers_initialisation() -> None:
    torch.manual_seed(0)
    network = OrganNetwork(3)
    initialise(network, "paper")
    ones = {name for name, p in network.named_parameters() if name.endswith("bias") and (p == 1).all()}
    zeros = {name for name, p in network.named_parameters() if name.endswith("bias") and (p == 0).all()}
    assert ones == {"convolutional.cvl2.bias", "convolutional.cvl4.bias", "convolutional.cvl5.bias"} | {
        f"fcl{n}.bias" for n in (1, 2, 3)
    }
    assert zeros == {"convolutional.cvl1.bias", "convolutional.cvl3.bias", "output.bias"}
    assert abs(float(network.fcl2.weight.detach().std()) - 0.01) < 1e-4


def test_batch_normalisation_folds_into_the_plain_network() -> None:
    torch.manual_seed(0)
    network = OrganNetwork(3, normalise=True)
    initialise(network, "he")
    for _ in range(2):
        network(torch.randn(8, 1, 128, 128) * 3 + 1)  # smaller images, in training: running means and variances move
    network.eval()
    plain = OrganNetwork(3).eval()
    plain.load_state_dict(fold(network.state_dict()))
    images = torch.randn(2, 1, 224, 224)
    expected, found = network.features(images, ("fcl1",)), plain.features(images, ("fcl1",))
    assert torch.allclose(found[0], expected[0], atol=1e-4)
    assert torch.allclose(found[1]["fcl1"], expected[1]["fcl1"], atol=1e-3)
    assert expected[1]["fcl1"].std() > 0.1
    weights = plain.state_dict()
    assert all(torch.equal(tensor, weights[name]) for name, tensor in fold(weights).items())
