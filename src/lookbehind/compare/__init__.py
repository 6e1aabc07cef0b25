"""``lookbehind compare``: what SGD and the sharpness-aware optimizers do on real data, at equal cost too."""

from lookbehind.compare.items import METHODS, Comparison

__all__ = ["METHODS", "Comparison"]
