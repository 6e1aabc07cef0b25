"""Residual networks: of four stages for CIFAR and ImageNet, of three narrow ones for two cores."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence

from torch import Tensor, nn
from torch.nn.functional import pad, relu

Shortcut = Callable[[int, int, int], nn.Module]  # of (inputs, outputs, stride)


def conv3x3(inputs: int, outputs: int, stride: int = 1) -> nn.Conv2d:
    """Return a 3×3 convolution that keeps the size, or halves it with stride 2."""
    return nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)


def conv1x1(inputs: int, outputs: int, stride: int = 1) -> nn.Conv2d:
    """Return a 1×1 convolution."""
    return nn.Conv2d(inputs, outputs, 1, stride, bias=False)


def projection(inputs: int, outputs: int, stride: int) -> nn.Module:
    """Return option B of He et al., 2016: a 1×1 convolution with batch norm where the shape changes."""
    if stride == 1 and inputs == outputs:
        return nn.Identity()
    return nn.Sequential(conv1x1(inputs, outputs, stride), nn.BatchNorm2d(outputs))


class Padding(nn.Module):
    """Option A of He et al., 2016: every stride-th position, and zeros for the new channels. No parameters."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.stride, self.extra = stride, outputs - inputs

    def forward(self, x: Tensor) -> Tensor:
        """Return the subsampled, padded input."""
        return pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, 0, self.extra))


class BasicBlock(nn.Module):
    """Two 3×3 convolutions: relu(x + bn(conv(relu(bn(conv(x))))))."""

    expansion = 1

    def __init__(self, inputs: int, width: int, stride: int, shortcut: Shortcut) -> None:
        super().__init__()
        self.conv1, self.bn1 = conv3x3(inputs, width, stride), nn.BatchNorm2d(width)
        self.conv2, self.bn2 = conv3x3(width, width), nn.BatchNorm2d(width)
        self.downsample = shortcut(inputs, width, stride)

    def forward(self, x: Tensor) -> Tensor:
        """Return the block's output."""
        out = relu(self.bn1(self.conv1(x)))
        return relu(self.bn2(self.conv2(out)) + self.downsample(x))


class Bottleneck(nn.Module):
    """1×1, 3×3 and 1×1 convolutions; the 3×3 one has the stride, as in torchvision and in the paper's code."""

    expansion = 4

    def __init__(self, inputs: int, width: int, stride: int, shortcut: Shortcut) -> None:
        super().__init__()
        outputs = width * self.expansion
        self.conv1, self.bn1 = conv1x1(inputs, width), nn.BatchNorm2d(width)
        self.conv2, self.bn2 = conv3x3(width, width, stride), nn.BatchNorm2d(width)
        self.conv3, self.bn3 = conv1x1(width, outputs), nn.BatchNorm2d(outputs)
        self.downsample = shortcut(inputs, outputs, stride)

    def forward(self, x: Tensor) -> Tensor:
        """Return the block's output."""
        out = relu(self.bn1(self.conv1(x)))
        out = relu(self.bn2(self.conv2(out)))
        return relu(self.bn3(self.conv3(out)) + self.downsample(x))


def resnet(
    block: type[BasicBlock] | type[Bottleneck],
    depths: Sequence[int],
    widths: Sequence[int],
    *,
    channels: int = 3,
    classes: int = 10,
    imagenet: bool = False,
    shortcut: Shortcut = projection,
) -> nn.Sequential:
    """Return stem, stages of residual blocks (each but the first halves the image), mean over positions, linear layer.

    He et al., 2016. Parameters have the names that torchvision gives them, so its weights for ImageNet load.

    Args:
        block: ``BasicBlock`` or ``Bottleneck``.
        depths: blocks of each stage.
        widths: channels of each stage, before the block's expansion.
        channels: channels of the images. Default 3.
        classes: number of classes. Default 10.
        imagenet: a 7×7 convolution of stride 2 and max pooling as stem, for large images; otherwise a 3×3 convolution
            of stride 1. Default False.
        shortcut: ``projection`` (option B) or ``Padding`` (option A). Default ``projection``.

    Example:
        >>> import torch
        >>> net = resnet(BasicBlock, depths=(1, 1), widths=(8, 16), channels=1)
        >>> net(torch.zeros(5, 1, 14, 14)).shape
        torch.Size([5, 10])

    """
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    inputs = widths[0]
    layers["conv1"] = nn.Conv2d(channels, inputs, 7, 2, 3, bias=False) if imagenet else conv3x3(channels, inputs)
    layers["bn1"], layers["relu"] = nn.BatchNorm2d(inputs), nn.ReLU()
    layers["maxpool"] = nn.MaxPool2d(3, 2, 1) if imagenet else nn.Identity()
    for stage, (depth, width) in enumerate(zip(depths, widths, strict=True), 1):
        blocks = []
        for i in range(depth):
            blocks.append(block(inputs, width, 2 if stage > 1 and i == 0 else 1, shortcut))
            inputs = width * block.expansion
        layers[f"layer{stage}"] = nn.Sequential(*blocks)
    layers["avgpool"], layers["flatten"] = nn.AdaptiveAvgPool2d(1), nn.Flatten()
    layers["fc"] = nn.Linear(inputs, classes)
    return nn.Sequential(layers)


def fan_out_(model: nn.Module) -> None:
    """Draw the weights of convolutions from N(0, 2 / fan-out), fan-out = outputs × kernel area (He et al., 2015)."""
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")


WIDTHS = (64, 128, 256, 512)


def resnet34(channels: int = 3, classes: int = 10) -> nn.Sequential:
    """Return the ResNet-34 for CIFAR of the paper's code: 3×3 stem, torch's default initialisation.

    Args:
        channels: channels of the images, of 8×8 pixels or more. Default 3.
        classes: number of classes. Default 10.

    Example:
        >>> sum(p.numel() for p in resnet34().parameters())
        21282122

    """
    return resnet(BasicBlock, (3, 4, 6, 3), WIDTHS, channels=channels, classes=classes)


def resnet50(channels: int = 3, classes: int = 10) -> nn.Sequential:
    """Return the ResNet-50 for CIFAR of the paper's code: 3×3 stem, torch's default initialisation.

    Args:
        channels: channels of the images, of 8×8 pixels or more. Default 3.
        classes: number of classes. Default 10.

    Example:
        >>> sum(p.numel() for p in resnet50().parameters())
        23520842

    """
    return resnet(Bottleneck, (3, 4, 6, 3), WIDTHS, channels=channels, classes=classes)


def resnet18(channels: int = 3, classes: int = 10) -> nn.Sequential:
    """Return the ResNet-18 for ImageNet: 7×7 stem, max pooling, fan-out initialisation as in torchvision.

    Args:
        channels: channels of the images, 224×224 in the paper; the size shrinks 32-fold. Default 3.
        classes: number of classes, 1000 for ImageNet. Default 10.

    Example:
        >>> sum(p.numel() for p in resnet18(classes=1000).parameters())
        11689512

    """
    net = resnet(BasicBlock, (2, 2, 2, 2), WIDTHS, channels=channels, classes=classes, imagenet=True)
    fan_out_(net)
    return net


def small_resnet(depth: int = 8, channels: int = 3, classes: int = 10) -> nn.Sequential:
    """Return the narrow CIFAR network of He et al., 2016, section 4.2: 16, 32, 64 channels, option A, fan-out.

    Args:
        depth: layers with weights, 6n + 2: 8, 14, 20, 32, 44, 56, 110. Default 8.
        channels: channels of the images, of 8×8 pixels or more. Default 3.
        classes: number of classes. Default 10.

    Raises:
        ValueError: if ``depth`` is not 6n + 2.

    Example:
        >>> sum(p.numel() for p in small_resnet(depth=8).parameters())
        75290

    """
    if depth < 8 or (depth - 2) % 6:
        raise ValueError(f"depth is {depth}; it has to be 6n + 2 for some n of at least 1, such as 8 or 20")
    blocks = ((depth - 2) // 6,) * 3
    net = resnet(BasicBlock, blocks, (16, 32, 64), channels=channels, classes=classes, shortcut=Padding)
    fan_out_(net)
    return net
