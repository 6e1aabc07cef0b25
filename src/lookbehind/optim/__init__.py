"""Sharpness-aware optimizers around any ``torch.optim`` optimizer. Needs nothing but torch."""

from lookbehind._tensors import norm, norms
from lookbehind.optim._evaluation import NonfiniteGradientError
from lookbehind.optim._step import Step
from lookbehind.optim._wrapper import OptimizerWrapper, WrapperOptions
from lookbehind.optim.ascent import Ascent, AscentOptions, AscentWrapper
from lookbehind.optim.lookahead import Lookahead
from lookbehind.optim.lookbehind import Lookbehind
from lookbehind.optim.multistep_sam import MultistepSAM
from lookbehind.optim.perturbation import Adaptive, Euclidean, Perturbation
from lookbehind.optim.sam import ASAM, SAM

__all__ = [
    "ASAM",
    "SAM",
    "Adaptive",
    "Ascent",
    "AscentOptions",
    "AscentWrapper",
    "Euclidean",
    "Lookahead",
    "Lookbehind",
    "MultistepSAM",
    "NonfiniteGradientError",
    "OptimizerWrapper",
    "Perturbation",
    "Step",
    "WrapperOptions",
    "norm",
    "norms",
]
