"""Sharpness-aware optimizers around any ``torch.optim`` optimizer. Needs nothing but torch."""

from lookbehind._tensors import norm, norms
from lookbehind.optim._evaluation import NonfiniteGradientError
from lookbehind.optim._step import Step
from lookbehind.optim._wrapper import OptimizerWrapper, WrapperOptions
from lookbehind.optim.accumulating_sam import AccumulatingSAM
from lookbehind.optim.ascent import Ascent, AscentOptions, AscentWrapper
from lookbehind.optim.fraction_sam import FractionSAM
from lookbehind.optim.friendly_sam import FriendlySAM
from lookbehind.optim.gnp import GNP, WSAM
from lookbehind.optim.gsam import GSAM
from lookbehind.optim.lookahead import Lookahead
from lookbehind.optim.lookbehind import Lookbehind
from lookbehind.optim.looksam import LookSAM
from lookbehind.optim.momentum_sam import MomentumSAM
from lookbehind.optim.multistep_sam import MultistepSAM
from lookbehind.optim.perturbation import Adaptive, Euclidean, Perturbation
from lookbehind.optim.s2_sam import S2SAM
from lookbehind.optim.sam import ASAM, SAM
from lookbehind.optim.schedule import Every, FollowsRate, LargeGradient, Schedule, Sometimes, Window
from lookbehind.optim.stable_sam import StableSAM
from lookbehind.optim.vasso import VaSSO
from lookbehind.optim.xsam import XSAM

__all__ = [
    "ASAM",
    "GNP",
    "GSAM",
    "S2SAM",
    "SAM",
    "WSAM",
    "XSAM",
    "AccumulatingSAM",
    "Adaptive",
    "Ascent",
    "AscentOptions",
    "AscentWrapper",
    "Euclidean",
    "Every",
    "FollowsRate",
    "FractionSAM",
    "FriendlySAM",
    "LargeGradient",
    "LookSAM",
    "Lookahead",
    "Lookbehind",
    "MomentumSAM",
    "MultistepSAM",
    "NonfiniteGradientError",
    "OptimizerWrapper",
    "Perturbation",
    "Schedule",
    "Sometimes",
    "StableSAM",
    "Step",
    "VaSSO",
    "Window",
    "WrapperOptions",
    "norm",
    "norms",
]
