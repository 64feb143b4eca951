"""The convolutional neural network of the paper (section 3.1.1, Fig. 3)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, Literal

import torch
from torch import Tensor, nn

from model.network.layers import FEATURES

MAP: Final = 6
"""Side of the last convolutional maps of a 224 × 224 image."""

EPSILON: Final = 1e-5
"""Added to the variance by batch normalisation; torch's own default."""


class OrganNetwork(nn.Module):
    """Five convolutional layers (CVL1-5), three fully connected ones (FCL1-3) and the output layer.

    The paper does not state paddings: 2 for CVL1-3 and 1 for CVL4-5 give 256 × 6 × 6 before FCL1, and 75.0 M
    parameters for 24 classes.

    Args:
        classes: number of organ classes.
        dropout: probability of dropping a unit of FCL1 and FCL2 in training; the paper's reference has 0.5.
        normalise: normalise the outputs of CVL1-5 and FCL1 by batch, before ReLU: for training only, :func:`fold`
            makes the plain network of it. FCL2 and FCL3 are left out, as their inputs' variance differs between
            training and use by the dropout before them.
        width: of FCL1-3, the length of their features; the paper's is 4,096.
    """

    def __init__(self, classes: int, dropout: float = 0.5, *, normalise: bool = False, width: int = FEATURES) -> None:
        super().__init__()
        self.convolutional = nn.Sequential()
        for name, module in {
            "cvl1": nn.Conv2d(1, 64, kernel_size=11, stride=4, padding=2),
            "norm1": nn.BatchNorm2d(64, eps=EPSILON),
            "relu1": nn.ReLU(inplace=True),
            "pool1": nn.MaxPool2d(kernel_size=3, stride=2),
            "cvl2": nn.Conv2d(64, 192, kernel_size=5, padding=2),
            "norm2": nn.BatchNorm2d(192, eps=EPSILON),
            "relu2": nn.ReLU(inplace=True),
            "pool2": nn.MaxPool2d(kernel_size=3, stride=2),
            "cvl3": nn.Conv2d(192, 384, kernel_size=5, padding=2),
            "norm3": nn.BatchNorm2d(384, eps=EPSILON),
            "relu3": nn.ReLU(inplace=True),
            "cvl4": nn.Conv2d(384, 256, kernel_size=3, padding=1),
            "norm4": nn.BatchNorm2d(256, eps=EPSILON),
            "relu4": nn.ReLU(inplace=True),
            "cvl5": nn.Conv2d(256, 256, kernel_size=3, padding=1),
            "norm5": nn.BatchNorm2d(256, eps=EPSILON),
            "relu5": nn.ReLU(inplace=True),
            "pool5": nn.MaxPool2d(kernel_size=3, stride=2),
        }.items():
            if normalise or not isinstance(module, nn.BatchNorm2d):
                self.convolutional.add_module(name, module)
        self.fcl1 = nn.Linear(256 * MAP * MAP, width)
        self.norm_fcl1 = nn.BatchNorm1d(width, eps=EPSILON) if normalise else nn.Identity()
        self.fcl2 = nn.Linear(width, width)
        self.fcl3 = nn.Linear(width, width)
        self.output = nn.Linear(width, classes)
        self.dropout = nn.Dropout(dropout)

    @property
    def width(self) -> int:
        """Of FCL1-3: the length of their features."""
        return self.output.in_features

    def forward(self, images: Tensor) -> Tensor:
        """Log-probabilities ``(n, classes)`` of scaled images ``(n, 1, 224, 224)``, float32."""
        return torch.log_softmax(self.features(images, ())[0], dim=1)

    def features(self, images: Tensor, layers: Sequence[str]) -> tuple[Tensor, dict[str, Tensor]]:
        """Outputs before the softmax ``(n, classes)`` and the chosen layers' ones, each ``(n, width)``, in one pass.

        A feature is taken after ReLU and before dropout (which acts in training only). Images of another size, with
        which a training may begin, have their last maps resized.
        """
        maps = self.convolutional(images)
        if maps.shape[-2:] != (MAP, MAP):
            maps = nn.functional.interpolate(maps, (MAP, MAP), mode="bilinear")
        f1 = torch.relu(self.norm_fcl1(self.fcl1(maps.flatten(1))))
        f2 = torch.relu(self.fcl2(self.dropout(f1)))
        f3 = torch.relu(self.fcl3(self.dropout(f2)))
        outputs = {"fcl1": f1, "fcl2": f2, "fcl3": f3}
        return self.output(f3).float(), {name: outputs[name] for name in layers}


def scale(images: Tensor) -> Tensor:
    """Scale ``(n, side, side)`` grey images, 0…255, to the network's ``(n, 1, side, side)`` float32, channels last."""
    scaled = images.unsqueeze(1).to(torch.float32).sub(127.5).div_(63.75)
    return scaled.contiguous(memory_format=torch.channels_last)


@torch.no_grad()
def initialise(network: OrganNetwork, scheme: Literal["paper", "he"]) -> None:
    """Set all weights and biases, from torch's global random generator.

    ``paper`` (section 3.1.2): weights N(0, 0.01²), biases 1 in CVL2, CVL4, CVL5 and FCL1-3, 0 elsewhere.
    ``he`` (He et al. 2015, eq. 10): weights N(0, 2/fan_in), N(0, 0.01²) in the output layer, biases 0.
    """
    ones = {"cvl2", "cvl4", "cvl5", "fcl1", "fcl2", "fcl3"} if scheme == "paper" else set()
    for name, module in network.named_modules():
        if not isinstance(module, nn.Conv2d | nn.Linear):
            continue
        if scheme == "paper" or name == "output":
            nn.init.normal_(module.weight, std=0.01)
        else:
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
        assert module.bias is not None
        nn.init.constant_(module.bias, 1.0 if name.rpartition(".")[2] in ones else 0.0)


def fold(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The weights of the plain network that computes what a normalised one with ``weights`` does in evaluation.

    Batch normalisation is then a fixed linear map of each channel, which the layer before it takes into its weights and
    bias. Weights without any are returned as they are.
    """
    plain = {name: tensor for name, tensor in weights.items() if "norm" not in name}
    for norm in (name.removesuffix(".running_mean") for name in weights if name.endswith(".running_mean")):
        layer = norm.replace("norm_", "").replace("norm", "cvl")
        gain = weights[f"{norm}.weight"] / (weights[f"{norm}.running_var"] + EPSILON).sqrt()
        weight, bias = plain[f"{layer}.weight"], plain[f"{layer}.bias"]
        plain[f"{layer}.weight"] = weight * gain.reshape(-1, *[1] * (weight.dim() - 1))
        plain[f"{layer}.bias"] = (bias - weights[f"{norm}.running_mean"]) * gain + weights[f"{norm}.bias"]
    return plain


def plain(network: OrganNetwork) -> OrganNetwork:
    """A plain copy of a network in training, in evaluation mode and on the processor: what a checkpoint keeps of it."""
    weights = fold({name: tensor.detach().cpu() for name, tensor in network.state_dict().items()})
    copy = OrganNetwork(network.output.out_features, width=network.width)
    copy.load_state_dict(weights)
    return copy.eval()
