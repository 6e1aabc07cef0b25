"""GSAM: surrogate gap minimisation (Zhuang et al., 2022)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType

from torch.optim import Optimizer
from typing_extensions import Unpack

from lookbehind._checks import nonnegative
from lookbehind._tensors import ratio
from lookbehind.optim._evaluation import Closure
from lookbehind.optim._step import Step
from lookbehind.optim.ascent import CLEAN_GRADIENT, AscentOptions, AscentWrapper
from lookbehind.optim.perturbation import Perturbation, PerturbationName


class GSAM(AscentWrapper):
    r"""Descend with SAM's gradient, less a part of the clean gradient's component across it.

    .. math::
        \phi_t = \phi_{t-1} - \eta \left( g_s - \alpha \, g_\perp \right), \qquad
        g_\perp = g - \langle g, u \rangle u, \quad u = \frac{g_s}{\|g_s\|_2}

    with g the gradient at φ and g_s that at φ + ε (Zhuang et al., 2022). Across g_s, the step climbs the clean loss: it
    narrows the gap between both losses. Two gradients a step. α = 0 is SAM. The paper lets the radius follow the rate:
    ``radius=FollowsRate(...)``.

    Args:
        base: the optimizer that descends.
        rho: ρ ≥ 0; per group and changeable. Default 0.05. The paper has 0.04 falling to 0.02 for ResNet-50, and 0.6
            falling to 0.1 for ViT-B/32.
        alpha: α ≥ 0. Default 0.4, the paper's for ViT-S/32; 0.01 for ResNet-50, 0.6 for ViT-B/32.
        perturbation: "sam", "asam" or a rule object. Default "sam".
        **options: see ``AscentOptions``.

    Raises:
        TypeError: if ``base`` is not an optimizer or a number is not a number.
        ValueError: if a number is out of range, a word is unknown, or ``base`` itself needs a closure.

    Example:
        >>> import torch
        >>> from lookbehind import GSAM, FollowsRate
        >>> base = torch.optim.SGD(torch.nn.Linear(3, 1).parameters(), lr=0.1)
        >>> optimizer = GSAM(base, rho=0.04, alpha=0.01, radius=FollowsRate(lr_max=0.1, rho_min=0.02))

    """

    base_steps_last = True
    refuses: Mapping[str, str] = MappingProxyType({"sync_ascent": CLEAN_GRADIENT})

    def __init__(
        self,
        base: Optimizer,
        rho: float = 0.05,
        alpha: float = 0.4,
        *,
        perturbation: PerturbationName | Perturbation = "sam",
        **options: Unpack[AscentOptions],
    ) -> None:
        self.alpha = nonnegative("alpha", alpha)
        super().__init__(base, {"rho": rho}, perturbation, k=1, **options)

    def update(self, step: Step, closures: Sequence[Closure]) -> None:
        """φ ← φ − η (g_s − α g_⊥), and g_⊥ = g − ⟨g, g_s⟩ g_s / ‖g_s‖²."""
        g = self.ascent.both_gradients(step, closures[0])
        g_s = [p.grad for p in step.params]
        length = step.norm(g_s)
        along = ratio(ratio(step.dot(g, g_s), length), length)
        step.combine(1.0 + self.alpha * along, g, -self.alpha)
        step.descend()

    def _details(self) -> dict[str, object]:
        return {"alpha": self.alpha, "perturbation": self.perturbation}
