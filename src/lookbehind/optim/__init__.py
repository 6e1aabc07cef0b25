"""Sharpness-aware optimizers around any ``torch.optim`` optimizer. Needs nothing but torch."""

from lookbehind._tensors import norm, norms
from lookbehind.optim._passes import NonfiniteGradientError
from lookbehind.optim._wrapper import Wrapper
from lookbehind.optim.lookahead import Lookahead
from lookbehind.optim.lookbehind import Lookbehind
from lookbehind.optim.multistep import MultistepSAM
from lookbehind.optim.perturbation import Adaptive, Euclidean, Perturbation
from lookbehind.optim.sam import SAM

__all__ = [
    "SAM",
    "Adaptive",
    "Euclidean",
    "Lookahead",
    "Lookbehind",
    "MultistepSAM",
    "NonfiniteGradientError",
    "Perturbation",
    "Wrapper",
    "norm",
    "norms",
]
