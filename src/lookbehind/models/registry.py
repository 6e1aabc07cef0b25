"""Models by name, so that a command line can list and build them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from torch import nn

from lookbehind._words import allowed
from lookbehind.models.convnet import ConvNet
from lookbehind.models.lifelong import lifelong_conv2, lifelong_conv3, lifelong_conv4
from lookbehind.models.resnet import resnet18, resnet34, resnet50, small_resnet
from lookbehind.models.vit import vit_base, vit_small, vit_tiny
from lookbehind.models.wide_resnet import wide_resnet


@dataclass(frozen=True)
class Model:
    """A builder, called as ``builder(channels=..., classes=...)``, and a line about what it builds."""

    builder: Callable[..., nn.Module]
    description: str  # with the number of parameters for 3 channels and 10 classes


MODELS: dict[str, Model] = {
    "convnet": Model(ConvNet, "three convolutions with batch norm, 24,346 parameters"),
    "resnet8": Model(partial(small_resnet, 8), "ResNet-8 of 16, 32 and 64 channels, 75,290 parameters"),
    "wrn-10-1": Model(partial(wide_resnet, 10, 1), "wide ResNet 10-1, 77,850 parameters"),
    "wrn-16-2": Model(partial(wide_resnet, 16, 2), "wide ResNet 16-2, 691,674 parameters"),
    "wrn-28-2": Model(partial(wide_resnet, 28, 2), "wide ResNet 28-2, 1,467,610 parameters (the paper's, CIFAR-10)"),
    "wrn-28-10": Model(
        partial(wide_resnet, 28, 10), "wide ResNet 28-10, 36,479,194 parameters (the paper's, CIFAR-100)"
    ),
    "resnet34": Model(resnet34, "ResNet-34 with a 3×3 stem, 21,282,122 parameters (the paper's, CIFAR-10)"),
    "resnet50": Model(resnet50, "ResNet-50 with a 3×3 stem, 23,520,842 parameters (the paper's, CIFAR-100)"),
    "resnet18": Model(resnet18, "ResNet-18 with a 7×7 stem, 11,181,642 parameters (the paper's, ImageNet)"),
    "vit-tiny": Model(vit_tiny, "Vision Transformer of 4 blocks for small images, 201,610 parameters"),
    "vit-s-16": Model(vit_small, "ViT-S/16 for 224×224 pixels, 21,669,514 parameters"),
    "vit-b-16": Model(vit_base, "ViT-B/16 for 224×224 pixels, 85,806,346 parameters (the paper's, ImageNet)"),
    "lifelong-conv2": Model(lifelong_conv2, "two strided convolutions, three linear layers, 23,210 parameters"),
    "lifelong-conv3": Model(
        lifelong_conv3, "three strided convolutions, three linear layers, 1,391,050 parameters (the paper's, lifelong)"
    ),
    "lifelong-conv4": Model(
        lifelong_conv4, "four strided convolutions, three linear layers, 2,751,850 parameters (the paper's, lifelong)"
    ),
}


def build(name: str, channels: int = 3, classes: int = 10) -> nn.Module:
    """Build a model by its name in ``MODELS``. All but resnet18, vit-s-16 and vit-b-16 are meant for small images.

    Args:
        name: one of ``MODELS``.
        channels: channels of the images. Default 3.
        classes: number of classes. Default 10.

    Returns:
        The model, freshly initialised from torch's random state.

    Raises:
        ValueError: if there is no such model, or ``channels`` or ``classes`` is less than 1.

    Example:
        >>> import torch
        >>> build("wrn-10-1", channels=1)(torch.zeros(5, 1, 8, 8)).shape
        torch.Size([5, 10])

    """
    if name not in MODELS:
        raise ValueError(f"model is {name!r}; {allowed(name, MODELS)}")
    for what, value in (("channels", channels), ("classes", classes)):
        if value < 1:
            raise ValueError(f"{what} is {value}; a whole number of at least 1 is needed")
    return MODELS[name].builder(channels=channels, classes=classes)
