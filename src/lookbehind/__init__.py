"""Sharpness-aware optimisation for PyTorch: SAM, ASAM, Multistep-SAM, Lookahead and Lookbehind."""

from lookbehind.optim import SAM, Adaptive, Euclidean, Lookahead, Lookbehind, MultistepSAM

__version__ = "0.1.0"

__all__ = ["SAM", "Adaptive", "Euclidean", "Lookahead", "Lookbehind", "MultistepSAM", "__version__"]
