"""StableSAM: SAM's direction at the clean gradient's length (Tan et al., 2024)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType

from torch.optim import Optimizer
from typing_extensions import Unpack

from lookbehind._tensors import ratio
from lookbehind.optim._evaluation import Closure
from lookbehind.optim._step import Step
from lookbehind.optim.ascent import CLEAN_GRADIENT, AscentOptions, AscentWrapper
from lookbehind.optim.perturbation import Perturbation, PerturbationName


class StableSAM(AscentWrapper):
    r"""Descend along SAM's gradient, as far as along the clean one.

    .. math::
        \phi_t = \phi_{t-1} - \eta \frac{\|g\|_2}{\|g_s\|_2} g_s

    with g the gradient at φ and g_s that at φ + ε (Tan et al., 2024). Two gradients a step. Where g_s is zero, so is
    the step.

    Args:
        base: the optimizer that descends.
        rho: ρ ≥ 0; per group and changeable. Default 0.05.
        perturbation: "sam", "asam" or a rule object. Default "sam".
        **options: see ``AscentOptions``.

    Raises:
        TypeError: if ``base`` is not an optimizer or ``rho`` not a number.
        ValueError: if a number is out of range, a word is unknown, or ``base`` itself needs a closure.

    Example:
        >>> import torch
        >>> from lookbehind import StableSAM
        >>> optimizer = StableSAM(torch.optim.SGD(torch.nn.Linear(3, 1).parameters(), lr=0.1), rho=0.05)

    """

    base_steps_last = True
    refuses: Mapping[str, str] = MappingProxyType({"sync_ascent": CLEAN_GRADIENT})

    def __init__(
        self,
        base: Optimizer,
        rho: float = 0.05,
        *,
        perturbation: PerturbationName | Perturbation = "sam",
        **options: Unpack[AscentOptions],
    ) -> None:
        super().__init__(base, {"rho": rho}, perturbation, k=1, **options)

    def update(self, step: Step, closures: Sequence[Closure]) -> None:
        """φ ← φ − η ‖g‖ g_s / ‖g_s‖."""
        step.gradient(closures[0])
        length = step.norm([p.grad for p in step.params])
        self.ascent.ascend(step)
        step.gradient(closures[0])
        step.restore()
        step.scale_gradients(ratio(length, step.norm([p.grad for p in step.params])))
        step.descend()
