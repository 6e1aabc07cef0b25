"""LookSAM over the whole model: SAM in every k-th step, its direction across the gradient kept for the others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType

import torch
from torch import Tensor
from torch.optim import Optimizer
from typing_extensions import Unpack

from lookbehind._checks import count, nonnegative
from lookbehind._tensors import add_, ratio, scale_, scaled
from lookbehind.optim._evaluation import Closure
from lookbehind.optim._step import Step
from lookbehind.optim.ascent import CLEAN_GRADIENT, AscentOptions, AscentWrapper
from lookbehind.optim.perturbation import Perturbation, PerturbationName


class LookSAM(AscentWrapper):
    r"""Take SAM's gradient in every k-th step, and between them add the part of it that changes slowly.

    .. math::
        g_v = g_s - \langle g_s, u \rangle u, \quad u = \frac{g}{\|g\|_2}; \qquad
        \phi_t = \phi_{t-1} - \eta \left( g + \alpha \frac{\|g\|_2}{\|g_v\|_2} g_v \right)

    with g the gradient at φ and g_s that at φ + ε (Liu et al., 2022). In steps 0, k, 2k, … g_v is taken anew, and the
    descent is SAM's. 1 + 1/k gradients a step on average. Norms are taken over the whole model. The paper has a norm
    for each layer.

    The evidence is negative: a comparison by others has it 2.4 points below SAM. ``SAM(when=Every(n))`` costs as much.

    Args:
        base: the optimizer that descends.
        rho: ρ ≥ 0; per group and changeable. Default 0.05.
        every: k ≥ 1. Default 5, the paper's.
        alpha: α ≥ 0. Default 0.7, the paper's.
        perturbation: "sam", "asam" or a rule object. Default "sam".
        **options: see ``AscentOptions``.

    Raises:
        TypeError: if ``base`` is not an optimizer, a number is not a number, or ``every`` not a whole number.
        ValueError: if a number is out of range, a word is unknown, or ``base`` itself needs a closure.

    Example:
        >>> import torch
        >>> from lookbehind import LookSAM
        >>> optimizer = LookSAM(torch.optim.SGD(torch.nn.Linear(3, 1).parameters(), lr=0.1), rho=0.05, every=5)

    """

    base_steps_last = True
    counts_steps = True
    keeps = ("across",)
    refuses: Mapping[str, str] = MappingProxyType(
        {"sync_ascent": CLEAN_GRADIENT, "when": "every says which of its steps climb"}
    )

    def __init__(
        self,
        base: Optimizer,
        rho: float = 0.05,
        every: int = 5,
        alpha: float = 0.7,
        *,
        perturbation: PerturbationName | Perturbation = "sam",
        **options: Unpack[AscentOptions],
    ) -> None:
        self.every = count("every", every)
        self.alpha = nonnegative("alpha", alpha)
        super().__init__(base, {"rho": rho}, perturbation, k=1, **options)

    def update(self, step: Step, closures: Sequence[Closure]) -> None:
        """φ ← φ − η g_s with g_v kept, or φ ← φ − η (g + α ‖g‖ g_v / ‖g_v‖)."""
        if step.number % self.every == 0:
            g = self.ascent.both_gradients(step, closures[0])
            self._keep(step, g)
        else:
            step.gradient(closures[0])
            across = self._across(step)
            factor = ratio(self.alpha * step.norm([p.grad for p in step.params]), step.norm(across))
            step.combine(1.0, _scaled(across, factor), 1.0)
        step.descend()

    def _keep(self, step: Step, g: list[Tensor | None]) -> None:
        """g_v ← g_s − ⟨g_s, g⟩ g / ‖g‖², and 0 where that is only rounding."""
        g_s = [p.grad for p in step.params]
        length, length_s = step.norm(g), step.norm(g_s)
        along = ratio(ratio(step.dot(g_s, g), length), length)
        across = step.saved("across")
        for a, gradient in zip(across, g_s, strict=True):
            a.zero_() if gradient is None else a.copy_(gradient)
        held = [(a, gradient) for a, gradient in zip(across, g, strict=True) if gradient is not None]
        scale_([gradient for _, gradient in held], -along)
        add_([a for a, _ in held], [gradient for _, gradient in held])
        kept = (step.norm(across) > _rounding(step, g_s, length_s)).to(length_s.dtype)
        scale_(across, kept)

    def _across(self, step: Step) -> list[Tensor | None]:
        """Return g_v of the parameters that have a gradient."""
        saved = [step.buffers.get("across", p) for p in step.params]
        return [None if p.grad is None else a for p, a in zip(step.params, saved, strict=True)]

    def _details(self) -> dict[str, object]:
        return {"every": self.every, "alpha": self.alpha, "perturbation": self.perturbation}


def _rounding(step: Step, g_s: Sequence[Tensor | None], length_s: Tensor) -> Tensor:
    """Return how long g_v can be by rounding alone: of the gradients in their own precision, and of sums over them."""
    of_sums = 16 * torch.finfo(length_s.dtype).eps * length_s
    dtypes = dict.fromkeys(p.dtype for p in step.params)
    if len(dtypes) == 1:
        return of_sums + torch.finfo(step.params[0].dtype).eps * length_s
    for dtype in dtypes:
        part = step.norm([t if p.dtype is dtype else None for p, t in zip(step.params, g_s, strict=True)])
        of_sums = of_sums + torch.finfo(dtype).eps * part
    return of_sums


def _scaled(tensors: list[Tensor | None], factor: Tensor) -> list[Tensor | None]:
    return [None if t is None else scaled([t], factor)[0] for t in tensors]
