"""VaSSO: climb along a running average of the gradients (Li & Giannakis, 2023)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType

from torch.optim import Optimizer
from typing_extensions import Unpack

from lookbehind.optim._average import next_average, save_average
from lookbehind.optim._evaluation import Closure
from lookbehind.optim._step import Step
from lookbehind.optim.ascent import STATEFUL, AscentOptions, AscentWrapper, share
from lookbehind.optim.perturbation import Perturbation, PerturbationName


class VaSSO(AscentWrapper):
    r"""Climb along a running average of the gradients, which varies less than a minibatch's.

    .. math::
        d \leftarrow (1 - \theta) d + \theta g, \qquad \epsilon = \rho \frac{d}{\|d\|_2}

    with g the gradient at φ, where d begins (Li & Giannakis, 2023). Two gradients a step. θ = 1 is SAM. A step that
    does not climb is averaged too.

    Args:
        base: the optimizer that descends.
        rho: ρ ≥ 0; per group and changeable. Default 0.05.
        theta: θ in [0, 1]. Default 0.9.
        perturbation: "sam", "asam" or a rule object, which takes d for the gradient. Default "sam".
        **options: see ``AscentOptions``.

    Raises:
        TypeError: if ``base`` is not an optimizer or a number is not a number.
        ValueError: if a number is out of range, a word is unknown, or ``base`` itself needs a closure.

    Example:
        >>> import torch
        >>> from lookbehind import VaSSO
        >>> optimizer = VaSSO(torch.optim.SGD(torch.nn.Linear(3, 1).parameters(), lr=0.1), rho=0.05, theta=0.9)

    """

    base_steps_last = True
    counts_steps = True
    keeps = ("average",)
    refuses: Mapping[str, str] = MappingProxyType({"sync_ascent": STATEFUL})

    def __init__(
        self,
        base: Optimizer,
        rho: float = 0.05,
        theta: float = 0.9,
        *,
        perturbation: PerturbationName | Perturbation = "sam",
        **options: Unpack[AscentOptions],
    ) -> None:
        self.theta = share("theta", theta)
        super().__init__(base, {"rho": rho}, perturbation, k=1, **options)

    def update(self, step: Step, closures: Sequence[Closure]) -> None:
        """φ ← φ − η ∇L(φ + ε) with ε along d."""
        step.gradient(closures[0])
        _, d = next_average(step, "average", self.theta)
        self.ascent.ascend(step, d)
        step.gradient(closures[0])
        step.restore()
        save_average(step, "average", d)
        step.descend()

    def plain(self, step: Step, closures: Sequence[Closure]) -> None:
        """φ ← φ − η g."""
        step.gradient(closures[0])
        _, d = next_average(step, "average", self.theta)
        save_average(step, "average", d)
        step.descend()

    def _details(self) -> dict[str, object]:
        return {"theta": self.theta, "perturbation": self.perturbation}
