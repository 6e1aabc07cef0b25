"""The convolutional nets of the lifelong-learning experiments, with one output for each class of all tasks."""

from __future__ import annotations

from collections import OrderedDict

from torch import nn


def strided_conv_net(
    depth: int, width: int, hidden: int, channels: int = 3, classes: int = 10, side: int = 4
) -> nn.Sequential:
    """Return 3×3 convolutions of stride 2 with ReLU, two hidden layers with ReLU, and a linear layer for all tasks.

    Without normalisation and dropout; weights by He et al., 2015 (fan-in), biases zero, as in the code of Gupta et al.
    (2020). With several tasks, each has its slice of the outputs as a head.

    Args:
        depth: convolutions; each halves the image.
        width: channels of each.
        hidden: width of the hidden layers.
        channels: channels of the images. Default 3.
        classes: outputs, of all tasks together. Default 10.
        side: height and width to which the last image is averaged; it is left as it is where it has that size, as
            those of the published sizes have. Default 4.

    Example:
        >>> import torch
        >>> strided_conv_net(depth=2, width=8, hidden=16, channels=1, side=2)(torch.zeros(5, 1, 8, 8)).shape
        torch.Size([5, 10])

    """
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    inputs = channels
    for i in range(1, depth + 1):
        layers[f"conv{i}"], layers[f"relu{i}"] = nn.Conv2d(inputs, width, 3, stride=2, padding=1), nn.ReLU()
        inputs = width
    layers["pool"], layers["flatten"] = nn.AdaptiveAvgPool2d(side), nn.Flatten()
    inputs = width * side**2
    for i in (1, 2):
        layers[f"fc{i}"], layers[f"relu_fc{i}"] = nn.Linear(inputs, hidden), nn.ReLU()
        inputs = hidden
    layers["heads"] = nn.Linear(hidden, classes)
    net = nn.Sequential(layers)
    for module in net.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            nn.init.kaiming_normal_(module.weight)
            assert module.bias is not None
            nn.init.zeros_(module.bias)
    return net


def lifelong_conv3(channels: int = 3, classes: int = 100) -> nn.Sequential:
    """Return the net for Split-CIFAR100: 3 convolutions of 160 channels, hidden layers of 320.

    Args:
        channels: channels of the images, 32×32 in the paper. Default 3.
        classes: outputs, of all tasks together. Default 100.

    Example:
        >>> sum(p.numel() for p in lifelong_conv3().parameters())
        1419940

    """
    return strided_conv_net(3, 160, 320, channels, classes)


def lifelong_conv4(channels: int = 3, classes: int = 200) -> nn.Sequential:
    """Return the net for Split-TinyImageNet: 4 convolutions of 160 channels, hidden layers of 640.

    Args:
        channels: channels of the images, 64×64 in the paper. Default 3.
        classes: outputs, of all tasks together. Default 200.

    Example:
        >>> sum(p.numel() for p in lifelong_conv4().parameters())
        2873640

    """
    return strided_conv_net(4, 160, 640, channels, classes)


def lifelong_conv2(channels: int = 1, classes: int = 10) -> nn.Sequential:
    """Return their small sibling for images of 8×8 or 14×14 pixels: 2 convolutions of 32 channels, hidden layers of 64.

    Args:
        channels: channels of the images. Default 1.
        classes: outputs, of all tasks together. Default 10.

    """
    return strided_conv_net(2, 32, 64, channels, classes, side=2)
