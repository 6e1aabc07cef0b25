"""Climb while accumulating: each micro-batch's gradient also perturbs the weights for the next one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, TypeVar

from torch.optim import Optimizer
from typing_extensions import Unpack

from lookbehind._checks import choice
from lookbehind._warning import warn
from lookbehind.optim._evaluation import Closure
from lookbehind.optim._mean import MeanGradient
from lookbehind.optim._step import Step
from lookbehind.optim.ascent import AscentOptions, AscentWrapper
from lookbehind.optim.perturbation import Perturbation, PerturbationName

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch.amp.grad_scaler import GradScaler

T = TypeVar("T")


class AccumulatingSAM(AscentWrapper):
    r"""Climb from micro-batch to micro-batch, and descend with the mean of all their gradients.

    .. math::
        h_i = \nabla L_i(\phi'_{i-1}), \quad \phi'_i = \phi'_{i-1} + \rho \frac{h_i}{\|h_i\|_2}, \qquad
        \phi_t = \phi_{t-1} - \eta \frac{1}{A} \sum_{i=1}^{A} h_i

    with :math:`\phi'_0 = \phi_{t-1}` and i = 1 … A. Anchored, :math:`\phi'_i = \phi_{t-1} + \rho h_i / \|h_i\|_2`.
    One gradient of each micro-batch, as many as plain accumulation takes: ``step([closure_1, ..., closure_A])``. Each
    closure is called once, in order, and zeroes the gradients as usual. The last micro-batch is not climbed from. A = 1
    is the base. It is the mean form of Multistep-SAM with a micro-batch of its own for each ascent.

    ``step`` returns the first micro-batch's loss, at the unperturbed weights; with ``model=`` running statistics of
    BatchNorm follow it alone.

    Args:
        base: the optimizer that descends.
        rho: ρ ≥ 0, the length of each ascent; per group and changeable. Default 0.05, as for SAM.
        anchored: whether each ascent starts at the unperturbed weights. Default False.
        perturbation: "sam", "asam" or a rule object. Default "sam".
        **options: see ``AscentOptions``. With ``sync_ascent=False`` ranks talk once a step.

    Raises:
        TypeError: if ``base`` is not an optimizer or ``rho`` not a number.
        ValueError: if a number is out of range, a word is unknown, or ``base`` itself needs a closure.

    Example:
        >>> import torch
        >>> from lookbehind import AccumulatingSAM
        >>> model, x = torch.nn.Linear(3, 1), torch.randn(4, 8, 3)
        >>> optimizer = AccumulatingSAM(torch.optim.SGD(model.parameters(), lr=0.1), rho=0.05)
        >>> def closure_of(x):
        ...     def closure():
        ...         optimizer.zero_grad()
        ...         loss = model(x).square().mean()
        ...         loss.backward()
        ...         return loss
        ...     return closure
        >>> loss = optimizer.step([closure_of(part) for part in x])

    """

    base_steps_last = True
    refuses: Mapping[str, str] = MappingProxyType(
        {"LargeGradient": "its first gradient is that of a part of the minibatch"}
    )

    def __init__(
        self,
        base: Optimizer,
        rho: float = 0.05,
        *,
        anchored: bool = False,
        perturbation: PerturbationName | Perturbation = "sam",
        **options: Unpack[AscentOptions],
    ) -> None:
        self.anchored = choice("anchored", anchored, (True, False))
        super().__init__(base, {"rho": rho}, perturbation, k=1, **options)

    if TYPE_CHECKING:

        def step(  # type: ignore[override]  # noqa: D102
            self, closure: Callable[[], T] | Sequence[Callable[[], T]], *, grad_scaler: GradScaler | None = None
        ) -> T: ...

    def update(self, step: Step, closures: Sequence[Closure]) -> None:
        """hᵢ = ∇Lᵢ(φ'ᵢ₋₁), φ'ᵢ ← φ'ᵢ₋₁ + ρ hᵢ/‖hᵢ‖; φ ← φ − η · mean of hᵢ."""
        self._accumulate(step, closures, climbs=True)

    def plain(self, step: Step, closures: Sequence[Closure]) -> None:
        """φ ← φ − η · mean of ∇Lᵢ(φ)."""
        self._accumulate(step, closures, climbs=False)

    def _accumulate(self, step: Step, closures: Sequence[Closure], *, climbs: bool) -> None:
        if climbs and len(closures) == 1:
            warn(
                "AccumulatingSAM got one closure, so nothing climbs and this is the base optimizer's own step; pass a "
                "list with a closure for each micro-batch"
            )
        mean = MeanGradient(step.scratch("total"), len(closures)) if len(closures) > 1 else None
        for i, closure in enumerate(closures, 1):
            step.gradient(closure, sync=self.ascent.sync)
            if mean is None or i == len(closures):
                break
            mean.add(step.params)
            if climbs:
                if self.anchored:
                    step.restore()
                self.ascent.ascend(step)
        if mean is not None:
            mean.put(step.params)
        step.restore()
        step.descend()

    def _closures(self, closure: Any) -> Sequence[Closure]:
        return self._several(closure, None)

    def _details(self) -> dict[str, object]:
        return {"anchored": self.anchored, "perturbation": self.perturbation}
