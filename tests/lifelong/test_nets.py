"""The nets of the paper's lifelong-learning experiments."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from lookbehind.models import build, lifelong_conv3, lifelong_conv4


@pytest.mark.parametrize(
    ("make", "side", "sides", "hidden", "classes", "parameters"),
    [
        (lifelong_conv3, 32, [16, 8, 4], 320, 100, 1_419_940),
        (lifelong_conv4, 64, [32, 16, 8, 4], 640, 200, 2_873_640),
    ],
)
def test_layers_and_parameters(
    make: type, side: int, sides: list[int], hidden: int, classes: int, parameters: int
) -> None:
    net = make()
    assert sum(p.numel() for p in net.parameters()) == parameters
    shapes = []
    for module in net:
        if isinstance(module, nn.Conv2d | nn.Linear | nn.Flatten):
            module.register_forward_hook(lambda *a: shapes.append(tuple(a[-1].shape[1:])))
    net(torch.zeros(2, 3, side, side))
    assert shapes == [*((160, s, s) for s in sides), (2560,), (hidden,), (hidden,), (classes,)]
    assert not any(isinstance(m, nn.BatchNorm2d | nn.Dropout) for m in net.modules())


def test_initial_weights() -> None:
    """N(0, 2 / fan-in), biases zero."""
    torch.manual_seed(0)
    for module in lifelong_conv3():
        if isinstance(module, nn.Conv2d | nn.Linear):
            fan_in = module.weight[0].numel()
            assert not module.bias.any()
            assert module.weight.std().item() == pytest.approx((2 / fan_in) ** 0.5, rel=0.04)


@pytest.mark.parametrize("side", [8, 14])
def test_the_small_one_takes_small_images(side: int) -> None:
    assert build("lifelong-conv2", channels=1, classes=6)(torch.zeros(3, 1, side, side)).shape == (3, 6)
