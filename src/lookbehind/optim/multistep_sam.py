"""Multistep-SAM: climb k times, descend once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from torch.optim import Optimizer
from typing_extensions import Unpack

from lookbehind._checks import choice
from lookbehind.optim._evaluation import Closure
from lookbehind.optim._mean import MeanGradient
from lookbehind.optim._step import Step
from lookbehind.optim.ascent import AscentOptions, AscentWrapper
from lookbehind.optim.perturbation import Perturbation, PerturbationName


class MultistepSAM(AscentWrapper):
    r"""Climb k times, and descend from where you were with the last gradient, or with the mean of the k gradients.

    .. math::
        \phi'_i = \phi'_{i-1} + \rho \frac{\nabla L(\phi'_{i-1})}{\|\nabla L(\phi'_{i-1})\|_2}, \quad
        \phi_t = \phi_{t-1} - \eta\, g, \quad
        g = \nabla L(\phi'_k) \;\text{or}\; \frac{1}{k} \sum_{i=1}^{k} \nabla L(\phi'_i)

    with :math:`\phi'_0 = \phi_{t-1}` (section 4.1 and, for the mean, appendix A.8 of Mordido et al., 2024). There is no
    projection: :math:`\phi'_k` may be k·ρ away. k + 1 gradients a step.

    Args:
        base: the optimizer that descends.
        rho: ρ ≥ 0, the length of each ascent; per group and changeable. Default 0.05.
        k: number of ascents. Default 2.
        gradient: "last" descends with the last gradient, "mean" with the mean of those at φ'₁ … φ'ₖ. Default "last".
        perturbation: "sam", "asam" or a rule object. Default "sam".
        **options: see ``AscentOptions``.

    Raises:
        TypeError: if ``base`` is not an optimizer, ``rho`` not a number or ``k`` not a whole number.
        ValueError: if a number is out of range, a word is unknown, or ``base`` itself needs a closure.

    Example:
        >>> import torch
        >>> from lookbehind import MultistepSAM
        >>> model = torch.nn.Linear(3, 1)
        >>> optimizer = MultistepSAM(torch.optim.SGD(model.parameters(), lr=0.1), rho=0.05, k=3, gradient="mean")

    """

    base_steps_last = True

    def __init__(
        self,
        base: Optimizer,
        rho: float = 0.05,
        k: int = 2,
        gradient: Literal["last", "mean"] = "last",
        *,
        perturbation: PerturbationName | Perturbation = "sam",
        **options: Unpack[AscentOptions],
    ) -> None:
        self.gradient = choice("gradient", gradient, ("last", "mean"))
        super().__init__(base, {"rho": rho}, perturbation, k=k, **options)

    def update(self, step: Step, closures: Sequence[Closure]) -> None:
        """φ ← φ − η g."""
        mean = MeanGradient(step.scratch("total"), self.k) if self.gradient == "mean" and self.k > 1 else None
        for inner in self.ascent.inner_steps(closures):
            self.ascent.climb(step, inner, sync=mean is None)  # ∇L(φ'ᵢ)
            if mean is not None and inner.number < self.k:
                mean.add(step.params)
        if mean is not None:
            mean.put(step.params)
        step.restore()
        step.descend()

    def _details(self) -> dict[str, object]:
        return {"k": self.k, "gradient": self.gradient, "perturbation": self.perturbation}
