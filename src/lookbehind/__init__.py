"""Sharpness-aware optimisation for PyTorch: SAM, ASAM, Multistep-SAM, Lookahead and Lookbehind."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lookbehind.methods import METHODS
    from lookbehind.optim import (
        ASAM,
        GNP,
        GSAM,
        S2SAM,
        SAM,
        WSAM,
        XSAM,
        AccumulatingSAM,
        Adaptive,
        Euclidean,
        Every,
        FollowsRate,
        FractionSAM,
        FriendlySAM,
        LargeGradient,
        Lookahead,
        Lookbehind,
        LookSAM,
        MomentumSAM,
        MultistepSAM,
        NonfiniteGradientError,
        Perturbation,
        Sometimes,
        StableSAM,
        VaSSO,
        Window,
    )

__version__ = "0.2.0"

__all__ = [
    "ASAM",
    "GNP",
    "GSAM",
    "METHODS",
    "S2SAM",
    "SAM",
    "WSAM",
    "XSAM",
    "AccumulatingSAM",
    "Adaptive",
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
    "Perturbation",
    "Sometimes",
    "StableSAM",
    "VaSSO",
    "Window",
    "__version__",
]


def __getattr__(name: str) -> Any:
    # Torch is imported with the first optimizer: `lookbehind --help` needs none, and the command line has to set
    # OMP_WAIT_POLICY before.
    if name == "METHODS":
        from lookbehind.methods import METHODS

        return METHODS
    if name in __all__:
        from lookbehind import optim

        return getattr(optim, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
