"""Multistep-SAM, with the last gradient or the mean of all (Kim et al., 2023)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.optim import Optimizer

from lookbehind._checks import choice
from lookbehind._tensors import add_, copy_, divide_
from lookbehind.optim._passes import Closure
from lookbehind.optim.climb import Climber
from lookbehind.optim.perturbation import Perturbation, PerturbationName


class MultistepSAM(Climber):
    r"""Climb k times, and descend once from where you were.

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
        gather: "last" descends with the last gradient, "mean" with the mean of those at φ'₁ … φ'ₖ. Default "last".
        perturbation: "sam", "asam" or a rule object. Default "sam".
        model: as in ``SAM``.
        nonfinite: as in ``SAM``.
        rollback: as in ``SAM``.
        rng: as in ``SAM``.
        perturb: as in ``SAM``.

    Raises:
        TypeError: if ``base`` is not an optimizer, ``rho`` not a number or ``k`` not a whole number.
        ValueError: if a number is out of range, a word is unknown, or ``base`` itself needs a closure.

    Example:
        >>> import torch
        >>> from lookbehind import MultistepSAM
        >>> model = torch.nn.Linear(3, 1)
        >>> optimizer = MultistepSAM(torch.optim.SGD(model.parameters(), lr=0.1), rho=0.05, k=3, gather="mean")

    """

    base_moves_last = True

    def __init__(
        self,
        base: Optimizer,
        rho: float = 0.05,
        k: int = 2,
        gather: str = "last",
        *,
        perturbation: PerturbationName | Perturbation = "sam",
        model: torch.nn.Module | None = None,
        nonfinite: str = "propagate",
        rollback: str = "weights",
        rng: str = "fresh",
        perturb: str = "global",
    ) -> None:
        self.gather = choice("gather", gather, ("last", "mean"))
        super().__init__(
            base,
            rho,
            k,
            perturbation,
            model=model,
            nonfinite=nonfinite,
            rollback=rollback,
            rng=rng,
            perturb=perturb,
        )

    def _update(self, closures: Sequence[Closure], slow: list[Tensor]) -> None:
        mean = _Mean(self._like("total", self._weights)) if self.gather == "mean" and self.k > 1 else None
        for i in self._climb(closures, descents="last" if mean is None else "each"):
            if mean is not None and i < self.k:
                mean.add(self._weights)
        if mean is not None:
            mean.put(self._weights, self.k)
        copy_(self._weights, slow)
        self.base.step()


class _Mean:
    """The mean of the gradients along the climb. A parameter without gradient in a pass adds nothing to the sum."""

    def __init__(self, total: list[Tensor]) -> None:
        self.total = total
        self.begun = [False] * len(total)

    def add(self, weights: list[Tensor]) -> None:
        held = [(j, p.grad) for j, p in enumerate(weights) if p.grad is not None]
        for put, begun in ((add_, True), (copy_, False)):
            part = [(self.total[j], grad) for j, grad in held if self.begun[j] is begun]
            put([total for total, _ in part], [grad for _, grad in part])
        for j, _ in held:
            self.begun[j] = True

    def put(self, weights: list[Tensor], k: int) -> None:
        """Leave in ``.grad``, where the last gradient is, the mean of all."""
        begun = [(p, total) for p, total, begun in zip(weights, self.total, self.begun, strict=True) if begun]
        held = [(p.grad, total) for p, total in begun if p.grad is not None]
        add_([grad for grad, _ in held], [total for _, total in held])
        for p, total in begun:
            if p.grad is None:
                p.grad = total.clone()
        divide_([p.grad for p in weights if p.grad is not None], k)
