"""S2-SAM: climb along the gradient of the step before, at one gradient a step (Ji et al., 2024)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

from torch import Tensor
from torch.optim import Optimizer
from typing_extensions import Unpack

from lookbehind._checks import fraction
from lookbehind._tensors import copy_, lerp_from_, scale_
from lookbehind.optim._evaluation import Closure
from lookbehind.optim._step import Step
from lookbehind.optim.ascent import STATEFUL, AscentOptions, AscentWrapper
from lookbehind.optim.perturbation import Perturbation, PerturbationName


class S2SAM(AscentWrapper):
    r"""Climb along the gradient that was found last, and descend from where you were with the one found there.

    .. math::
        h_t = \nabla L_t\!\left(\phi_{t-1} + \rho \frac{h_{t-1}}{\|h_{t-1}\|_2}\right), \qquad
        \phi_t = \phi_{t-1} - \eta h_t

    (Ji et al., 2024). One gradient a step; the first step does not climb. The radius must shrink with the rate, or the
    weights stay about ρ away from the minimum: ``radius=FollowsRate(lr_max=...)``.

    With k > 1 a step takes k minibatches, ``step([closure_1, ..., closure_k])``, with one gradient each. The climb goes
    on from minibatch to minibatch, fast weights descend with every gradient, and slow weights follow by α: it is
    Lookbehind with switching minibatches at half its price. Each step climbs anew from the slow weights.

    ``step`` returns the loss at perturbed weights, and running statistics of BatchNorm follow it: a step has no other
    evaluation. ``torch.optim.swa_utils.update_bn`` takes them anew.

    Args:
        base: the optimizer that descends.
        rho: ρ ≥ 0, the length of each ascent; per group and changeable. Default 0.05.
        k: minibatches, and ascents, of a step. Default 1.
        alpha: α in (0, 1], the step size of the slow weights; per group and changeable. Default 1.
        perturbation: "sam", "asam" or a rule object, which takes h for the gradient. Default "sam".
        **options: see ``AscentOptions``.

    Raises:
        TypeError: if ``base`` is not an optimizer, a number is not a number, or ``k`` not a whole number.
        ValueError: if a number is out of range, a word is unknown, or ``base`` itself needs a closure.

    Example:
        >>> import torch
        >>> from lookbehind import S2SAM, FollowsRate
        >>> base = torch.optim.SGD(torch.nn.Linear(3, 1).parameters(), lr=0.1)
        >>> optimizer = S2SAM(base, rho=0.05, radius=FollowsRate(lr_max=0.1))

    """

    moves_after_base = True
    keeps = ("gradient",)
    returns_clean_loss = False
    refuses: Mapping[str, str] = MappingProxyType({"sync_ascent": STATEFUL})

    def __init__(
        self,
        base: Optimizer,
        rho: float = 0.05,
        k: int = 1,
        alpha: float = 1.0,
        *,
        perturbation: PerturbationName | Perturbation = "sam",
        **options: Unpack[AscentOptions],
    ) -> None:
        self.base_steps_last = k == 1
        super().__init__(base, {"rho": rho, "alpha": alpha}, perturbation, k, **options)

    def update(self, step: Step, closures: Sequence[Closure]) -> None:
        """φ' ← φ' + ρ h/‖h‖, h ← ∇L(φ') and φᵢ ← φᵢ₋₁ − η h on each minibatch; φ ← φ + α (φₖ − φ)."""
        self._chain(step, closures, [step.buffers.get("gradient", p) for p in step.params])

    def plain(self, step: Step, closures: Sequence[Closure]) -> None:
        """Do the same without the climb."""
        self._chain(step, closures, None)

    def _chain(self, step: Step, closures: Sequence[Closure], h: list[Tensor | None] | None) -> None:
        climbs = h is not None
        fast, held = step.start, step.scratch("fast") if self.k > 1 else []
        for i, closure in enumerate(closures, 1):
            if climbs:
                self.ascent.ascend(step, h)
            step.gradient(closure)
            h = self._uphill(step)
            last = i == len(closures)
            step.descend(at=fast, to=None if last else held)
            fast = step.params if last else held
        for group, params, slow in step.by_group(step.start):
            lerp_from_(params, slow, group[self.group_key("alpha")])
        self._save(step, h or [])

    def _uphill(self, step: Step) -> list[Tensor | None]:
        """Return a copy of the gradients of what is minimised; the base may write to theirs."""
        h = step.keep_gradients("gradient")
        for group, _, part in step.by_group(h):
            if group.get("maximize"):
                scale_([t for t in part if t is not None], -1.0)
        return h

    def _save(self, step: Step, h: list[Tensor | None]) -> None:
        for saved, gradient in zip(step.saved("gradient"), h, strict=True):
            if gradient is None:
                saved.zero_()
            else:
                copy_([saved], [gradient])

    def _closures(self, closure: Any) -> Sequence[Closure]:
        return self._several(closure, self.k)

    def _check(self, name: str, value: Any) -> Any:
        return fraction("alpha", value) if name == "alpha" else super()._check(name, value)

    def _details(self) -> dict[str, object]:
        return {"k": self.k, "perturbation": self.perturbation}
