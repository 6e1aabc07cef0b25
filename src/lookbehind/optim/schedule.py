"""Schedules: which steps climb, and how the radius follows the learning rate. Options of every method that climbs."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from lookbehind._checks import count, nonnegative, number, shown


class Schedule(Protocol):
    """The protocol of ``when=``: by what factor the radius of a step is multiplied; 0 leaves the step to the base.

    Steps are counted from 0, and a skipped step does not count. All ranks must come to the same factor.

    A schedule that remembers numbers names them, with their first values, in ``numbers``; checkpoints hold them.

    """

    @property
    def numbers(self) -> Mapping[str, float]:
        """The numbers that the schedule remembers."""
        ...

    def __call__(self, t: int, gradient_norm: Callable[[], float], numbers: dict[str, float]) -> float:
        """Return the factor of step t.

        Args:
            t: the number of the step.
            gradient_norm: evaluates ∇L(φ), which the step then need not do again, and returns its ‖·‖₂.
            numbers: what the schedule remembers; it may write there.

        """
        ...


@dataclass(frozen=True)
class Every:
    """Climb in the first of every n steps: t mod n = 0. The other steps are the base optimizer's own.

    Args:
        n: n ≥ 1.
        radius: what ρ is multiplied by in the steps that climb. Composer climbs every 10th step with ρ · 10.
            Default 1.

    Example:
        >>> import torch
        >>> from lookbehind import SAM, Every
        >>> base = torch.optim.SGD(torch.nn.Linear(3, 1).parameters(), lr=0.1)
        >>> optimizer = SAM(base, rho=0.05, when=Every(10, radius=10.0))

    """

    n: int
    radius: float = 1.0
    numbers: Mapping[str, float] = field(default_factory=dict, init=False, repr=False)

    def __post_init__(self) -> None:
        count("n", self.n)
        nonnegative("radius", self.radius)

    def __call__(self, t: int, gradient_norm: Callable[[], float], numbers: dict[str, float]) -> float:
        """Return the factor of step t."""
        return self.radius if t % self.n == 0 else 0.0


@dataclass(frozen=True)
class Window:
    """Climb in the steps first ≤ t < until.

    Args:
        first: the first step that climbs, or a share of ``total`` between 0.0 and 1.0. Default 0.
        until: the first step that does not climb any more, or a share. Default: never.
        total: the steps of the training; needed for shares.

    Example:
        The last eighth of the training, as in late-phase SAM:

        >>> Window(first=0.875, total=8000)(6999, float, {}), Window(first=0.875, total=8000)(7000, float, {})
        (0.0, 1.0)

    """

    first: int | float = 0
    until: int | float | None = None
    total: int | None = None
    numbers: Mapping[str, float] = field(default_factory=dict, init=False, repr=False)

    def __post_init__(self) -> None:
        if self.total is not None:
            count("total", self.total)
        self._steps("first", self.first)
        if self.until is not None:
            self._steps("until", self.until)

    def _steps(self, name: str, value: int | float) -> int:
        if not isinstance(value, float):
            return count(name, value, least=0)
        if self.total is None:
            raise ValueError(f"{name} is {value}, a share of training; total= is needed, the number of its steps")
        if not 0.0 <= value <= 1.0:
            raise ValueError(f"{name} is {value}; a share between 0.0 and 1.0, or a whole number of steps, is needed")
        return round(value * self.total)

    def __call__(self, t: int, gradient_norm: Callable[[], float], numbers: dict[str, float]) -> float:
        """Return the factor of step t."""
        until = math.inf if self.until is None else self._steps("until", self.until)
        return 1.0 if self._steps("first", self.first) <= t < until else 0.0


@dataclass(frozen=True)
class Sometimes:
    """Climb in a step with probability p (RST: Zhao et al., 2022).

    The draw depends on the seed and the number of the step only. So all ranks draw alike, a resumed training draws as
    one in a row, and torch's random state is left alone.

    Args:
        p: the probability in [0, 1], or a function of the number of the step.
        seed: another seed draws other steps. Default 0.

    Example:
        >>> half = Sometimes(0.5)
        >>> 400 < sum(half(t, float, {}) for t in range(1000)) < 600
        True

    """

    p: float | Callable[[int], float]
    seed: int = 0
    numbers: Mapping[str, float] = field(default_factory=dict, init=False, repr=False)

    def __post_init__(self) -> None:
        if not callable(self.p):
            self._probability(self.p)

    @staticmethod
    def _probability(value: object) -> float:
        if not 0.0 <= number("p", value) <= 1.0:
            raise ValueError(f"p is {shown(value)}; a number between 0 and 1 is needed")
        return number("p", value)

    def __call__(self, t: int, gradient_norm: Callable[[], float], numbers: dict[str, float]) -> float:
        """Return the factor of step t."""
        p = self._probability(self.p(t) if callable(self.p) else self.p)
        return float(random.Random(f"{self.seed} {t}").random() < p)


@dataclass(frozen=True)
class LargeGradient:
    r"""Climb where the gradient is larger than usual (AE-SAM: Jiang et al., 2023).

    .. math::
        \|g\|^2 \ge \mu + c \sigma, \quad \mu \leftarrow \delta \mu + (1 - \delta) \|g\|^2, \quad
        \sigma^2 \leftarrow \delta \sigma^2 + (1 - \delta) (\|g\|^2 - \mu)^2

    with g = ∇L(φ), the averages taken before the comparison. They begin at the first gradient, so the first step
    climbs. The norm is read from the device once a step.

    Args:
        c: how many standard deviations above the mean. Default 0: about every second step.
        delta: δ in [0, 1), how slowly the averages follow. Default 0.9, the paper's.

    """

    c: float = 0.0
    delta: float = 0.9
    numbers: Mapping[str, float] = field(
        default_factory=lambda: {"norm_mean": -1.0, "norm_variance": 0.0}, init=False, repr=False
    )

    def __post_init__(self) -> None:
        if not math.isfinite(number("c", self.c)):
            raise ValueError(f"c is {self.c}; a finite number is needed")
        if not 0.0 <= number("delta", self.delta) < 1.0:
            raise ValueError(f"delta is {self.delta}; a number of at least 0 and less than 1 is needed")

    def __call__(self, t: int, gradient_norm: Callable[[], float], numbers: dict[str, float]) -> float:
        """Return the factor of step t."""
        norm = gradient_norm()
        square = norm * norm  # infinite where ** would raise
        if not math.isfinite(square):  # the averages would never be numbers again
            return 0.0
        if numbers["norm_mean"] < 0.0:
            numbers["norm_mean"] = square
            return 1.0
        mean = self.delta * numbers["norm_mean"] + (1.0 - self.delta) * square
        variance = self.delta * numbers["norm_variance"] + (1.0 - self.delta) * (square - mean) ** 2
        numbers.update(norm_mean=mean, norm_variance=variance)
        return float(square >= mean + self.c * math.sqrt(variance))


@dataclass(frozen=True)
class FollowsRate:
    r"""A radius that follows the learning rate (GSAM: Zhuang et al., 2022).

    .. math::
        \rho_t = \rho_{\min} + (\rho - \rho_{\min}) \frac{\eta_t - \eta_{\min}}{\eta_{\max} - \eta_{\min}}

    with η the group's rate as the step begins, and ρ the group's ``rho``.

    Args:
        lr_max: the rate at which the radius is ρ.
        lr_min: the rate at which it is ρ_min. Default 0.
        rho_min: ρ_min ≥ 0. Default 0: the radius is proportional to the rate.

    Example:
        >>> FollowsRate(lr_max=0.1, rho_min=0.02)(rho=0.04, lr=0.05)
        0.03

    """

    lr_max: float
    lr_min: float = 0.0
    rho_min: float = 0.0

    def __post_init__(self) -> None:
        nonnegative("rho_min", self.rho_min)
        if not nonnegative("lr_min", self.lr_min) < nonnegative("lr_max", self.lr_max):
            raise ValueError(f"lr_max is {self.lr_max}; more than lr_min = {self.lr_min} is needed")

    def __call__(self, rho: float, lr: float) -> float:
        """Return the radius at a rate; never less than 0."""
        return max(0.0, self.rho_min + (rho - self.rho_min) * (lr - self.lr_min) / (self.lr_max - self.lr_min))
