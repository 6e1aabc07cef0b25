"""The paper's nets and their small siblings for two cores; ``MODELS`` lists them by name."""

from lookbehind.models.convnet import ConvNet
from lookbehind.models.lifelong import lifelong_conv2, lifelong_conv3, lifelong_conv4
from lookbehind.models.registry import MODELS, Model, build
from lookbehind.models.resnet import resnet, resnet18, resnet34, resnet50, small_resnet
from lookbehind.models.transformer import TranslationTransformer
from lookbehind.models.vit import VisionTransformer, vit_base, vit_small, vit_tiny
from lookbehind.models.wide_resnet import wide_resnet

__all__ = [
    "MODELS",
    "ConvNet",
    "Model",
    "TranslationTransformer",
    "VisionTransformer",
    "build",
    "lifelong_conv2",
    "lifelong_conv3",
    "lifelong_conv4",
    "resnet",
    "resnet18",
    "resnet34",
    "resnet50",
    "small_resnet",
    "vit_base",
    "vit_small",
    "vit_tiny",
    "wide_resnet",
]
