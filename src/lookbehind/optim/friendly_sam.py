"""Friendly-SAM: climb along what is particular to the minibatch (Li et al., 2024)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Literal

import torch
from torch import Tensor
from torch.optim import Optimizer
from typing_extensions import Unpack

from lookbehind._checks import choice, nonnegative
from lookbehind._tensors import add_, copy_
from lookbehind.optim._average import next_average, save_average
from lookbehind.optim._evaluation import Closure
from lookbehind.optim._step import Step
from lookbehind.optim.ascent import STATEFUL, AscentOptions, AscentWrapper, share
from lookbehind.optim.perturbation import Perturbation, PerturbationName


class FriendlySAM(AscentWrapper):
    r"""Climb along the minibatch's gradient less the running average of all, which stands for the full gradient.

    .. math::
        \epsilon = \rho \frac{g - \sigma m}{\|g - \sigma m\|_2}, \qquad m \leftarrow \lambda m + (1 - \lambda) g

    with g the gradient at φ (Li et al., 2024). Two gradients a step. σ = 0 is SAM. In the published code ε has the
    average of before the step, and the first ascent is along g, where m begins. In the paper the average comes first,
    from m = 0. A step that does not climb is averaged too.

    Args:
        base: the optimizer that descends.
        rho: ρ ≥ 0; per group and changeable. Default 0.2, the published scripts'.
        sigma: σ ≥ 0. Default 1, the published scripts'.
        lam: λ in [0, 1]. Default 0.9; the published scripts have 0.6 to 0.95.
        order: "official" or "paper". Default "official".
        perturbation: "sam", "asam" or a rule object, which takes g − σ m for the gradient. Default "sam".
        **options: see ``AscentOptions``.

    Raises:
        TypeError: if ``base`` is not an optimizer or a number is not a number.
        ValueError: if a number is out of range, a word is unknown, or ``base`` itself needs a closure.

    Example:
        >>> import torch
        >>> from lookbehind import FriendlySAM
        >>> optimizer = FriendlySAM(torch.optim.SGD(torch.nn.Linear(3, 1).parameters(), lr=0.1), rho=0.2, lam=0.9)

    """

    base_steps_last = True
    counts_steps = True
    keeps = ("average",)
    refuses: Mapping[str, str] = MappingProxyType({"sync_ascent": STATEFUL})

    def __init__(
        self,
        base: Optimizer,
        rho: float = 0.2,
        sigma: float = 1.0,
        lam: float = 0.9,
        *,
        order: Literal["official", "paper"] = "official",
        perturbation: PerturbationName | Perturbation = "sam",
        **options: Unpack[AscentOptions],
    ) -> None:
        self.sigma = nonnegative("sigma", sigma)
        self.lam = share("lam", lam)
        self.order = choice("order", order, ("official", "paper"))
        super().__init__(base, {"rho": rho}, perturbation, k=1, **options)

    def update(self, step: Step, closures: Sequence[Closure]) -> None:
        """φ ← φ − η ∇L(φ + ε) with ε along g − σ m."""
        step.gradient(closures[0])
        before, after = self._average(step)
        self.ascent.ascend(step, self._along(step, before if self.order == "official" else after))
        step.gradient(closures[0])
        step.restore()
        save_average(step, "average", after)
        step.descend()

    def plain(self, step: Step, closures: Sequence[Closure]) -> None:
        """φ ← φ − η g."""
        step.gradient(closures[0])
        _, after = self._average(step)
        save_average(step, "average", after)
        step.descend()

    def _average(self, step: Step) -> tuple[list[Tensor | None], list[Tensor | None]]:
        from_zero = self.order == "paper"
        return next_average(step, "average", 1.0 - self.lam, from_zero=from_zero)

    def _along(self, step: Step, average: list[Tensor | None]) -> list[Tensor | None]:
        """Return g − σ m, and g where there is no average yet."""
        gradients = step.gradients()
        along = [None if g is None else torch.empty_like(g) for g in gradients]
        copy_([d for d in along if d is not None], [g for g in gradients if g is not None])
        both = [(d, m) for d, m in zip(along, average, strict=True) if d is not None and m is not None]
        add_([d for d, _ in both], [m for _, m in both], -self.sigma)
        return along

    def _details(self) -> dict[str, object]:
        return {"sigma": self.sigma, "lam": self.lam, "order": self.order, "perturbation": self.perturbation}
