"""Mixtures of the clean and the perturbed gradient: GNP (Zhao et al., 2022) and WSAM (Yue et al., 2023)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType

from torch import Tensor
from torch.optim import Optimizer
from typing_extensions import Unpack

from lookbehind._checks import choice, nonnegative, number
from lookbehind._tensors import add_, scale_
from lookbehind.optim._evaluation import Closure
from lookbehind.optim._step import Step
from lookbehind.optim.ascent import CLEAN_GRADIENT, AscentOptions, AscentWrapper
from lookbehind.optim.perturbation import Perturbation, PerturbationName


class GNP(AscentWrapper):
    r"""Descend with a mixture of the clean and the perturbed gradient.

    .. math::
        \phi_t = \phi_{t-1} - \eta \left( (1 - \alpha) \nabla L(\phi_{t-1})
        + \alpha \nabla L(\phi_{t-1} + \epsilon) \right)

    It penalises the norm of the gradient (Zhao et al., 2022). Two gradients a step. α = 1 is SAM, 0 the base.

    Args:
        base: the optimizer that descends.
        rho: ρ ≥ 0; per group and changeable. Default 0.05; the paper has 0.1 for CIFAR and 0.05 for ImageNet.
        alpha: α ≥ 0. Default 0.8, the paper's.
        perturbation: "sam", "asam" or a rule object. Default "sam".
        **options: see ``AscentOptions``.

    Raises:
        TypeError: if ``base`` is not an optimizer or a number is not a number.
        ValueError: if a number is out of range, a word is unknown, or ``base`` itself needs a closure.

    Example:
        >>> import torch
        >>> from lookbehind import GNP
        >>> optimizer = GNP(torch.optim.SGD(torch.nn.Linear(3, 1).parameters(), lr=0.1), rho=0.1, alpha=0.8)

    """

    base_steps_last = True
    refuses: Mapping[str, str] = MappingProxyType({"sync_ascent": CLEAN_GRADIENT})

    def __init__(
        self,
        base: Optimizer,
        rho: float = 0.05,
        alpha: float = 0.8,
        *,
        perturbation: PerturbationName | Perturbation = "sam",
        **options: Unpack[AscentOptions],
    ) -> None:
        self.alpha = nonnegative("alpha", alpha)
        super().__init__(base, {"rho": rho}, perturbation, k=1, **options)

    def update(self, step: Step, closures: Sequence[Closure]) -> None:
        """φ ← φ − η ((1 − α) g + α g_s)."""
        g = self.ascent.both_gradients(step, closures[0])
        step.combine(self.alpha, g, 1.0 - self.alpha)
        step.descend()

    def _details(self) -> dict[str, object]:
        return {"alpha": self.alpha, "perturbation": self.perturbation}


class WSAM(GNP):
    r"""Weigh the sharpness by γ/(1 − γ), within the base's step or apart from it.

    .. math::
        \phi_t = \phi_{t-1} - \eta \left( g + \tfrac{\gamma}{1 - \gamma} (g_s - g) \right)

    with g the gradient at φ and g_s that at φ + ε (Yue et al., 2023). Decoupled, the base steps with g. Then
    :math:`\eta \frac{\gamma}{1 - \gamma} (g_s - g)` is subtracted from the weights, without momentum or adaptive
    rates. Two gradients a step. γ = ½, coupled, is SAM.

    Args:
        base: the optimizer that descends.
        rho: ρ ≥ 0; per group and changeable. Default 0.05.
        gamma: γ in [0, 1). Default 0.9, the paper's.
        decoupled: whether the sharpness is subtracted apart from the base's step. Default True, as in the published
            code.
        perturbation: "sam", "asam" or a rule object. Default "sam".
        **options: see ``AscentOptions``.

    Raises:
        TypeError: if ``base`` is not an optimizer or a number is not a number.
        ValueError: if a number is out of range, a word is unknown, or ``base`` itself needs a closure.

    Example:
        >>> import torch
        >>> from lookbehind import WSAM
        >>> optimizer = WSAM(torch.optim.AdamW(torch.nn.Linear(3, 1).parameters()), rho=0.05, gamma=0.9)

    """

    def __init__(
        self,
        base: Optimizer,
        rho: float = 0.05,
        gamma: float = 0.9,
        *,
        decoupled: bool = True,
        perturbation: PerturbationName | Perturbation = "sam",
        **options: Unpack[AscentOptions],
    ) -> None:
        if not 0.0 <= number("gamma", gamma) < 1.0:
            raise ValueError(f"gamma is {gamma}; a number of at least 0 and less than 1 is needed")
        self.gamma = float(gamma)
        self.decoupled = self.moves_after_base = choice("decoupled", decoupled, (True, False))
        super().__init__(base, rho, gamma / (1.0 - gamma), perturbation=perturbation, **options)

    def update(self, step: Step, closures: Sequence[Closure]) -> None:
        """Coupled as GNP; decoupled φ ← φ − η g by the base, then φ ← φ − η α (g_s − g)."""
        if not self.decoupled:
            super().update(step, closures)
            return
        g = self.ascent.both_gradients(step, closures[0])
        difference = step.swap_gradients(g)
        step.descend()
        for group, params, part in step.by_group(difference):
            held = [(p, d) for p, d in zip(params, part, strict=True) if d is not None]
            scale_([d for _, d in held], group["lr"] if isinstance(group["lr"], Tensor) else float(group["lr"]))
            add_([p for p, _ in held], [d for _, d in held], self.alpha if group.get("maximize") else -self.alpha)

    def _details(self) -> dict[str, object]:
        return {"gamma": self.gamma, "decoupled": self.decoupled, "perturbation": self.perturbation}
