"""The paper's convolutional nets and their small siblings for two cores; ``MODELS`` lists them by name."""

from lookbehind.models.convnet import ConvNet
from lookbehind.models.registry import MODELS, Model, build
from lookbehind.models.resnet import resnet, resnet18, resnet34, resnet50, small_resnet
from lookbehind.models.wide_resnet import wide_resnet

__all__ = [
    "MODELS",
    "ConvNet",
    "Model",
    "build",
    "resnet",
    "resnet18",
    "resnet34",
    "resnet50",
    "small_resnet",
    "wide_resnet",
]
