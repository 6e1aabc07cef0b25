"""Sharpness-aware optimisation for PyTorch: SAM, ASAM, Multistep-SAM, Lookahead and Lookbehind."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lookbehind.optim import (
        ASAM,
        SAM,
        Adaptive,
        Euclidean,
        Lookahead,
        Lookbehind,
        MultistepSAM,
        NonfiniteGradientError,
        Perturbation,
    )

__version__ = "0.1.0"

__all__ = [
    "ASAM",
    "SAM",
    "Adaptive",
    "Euclidean",
    "Lookahead",
    "Lookbehind",
    "MultistepSAM",
    "NonfiniteGradientError",
    "Perturbation",
    "__version__",
]


def __getattr__(name: str) -> Any:
    # Torch is imported with the first optimizer: `lookbehind --help` needs none, and the command line has to set
    # OMP_WAIT_POLICY before.
    if name in __all__:
        from lookbehind import optim

        return getattr(optim, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
