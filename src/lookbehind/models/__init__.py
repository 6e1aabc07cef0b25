"""Models of the comparisons."""

from lookbehind.models.convnet import ConvNet

__all__ = ["ConvNet"]
