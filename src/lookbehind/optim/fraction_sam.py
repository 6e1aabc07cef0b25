"""Climb by a fraction of the minibatch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from torch.optim import Optimizer
from typing_extensions import Unpack

from lookbehind._checks import choice
from lookbehind._checks import fraction as checked_fraction
from lookbehind.optim._evaluation import Closure
from lookbehind.optim._step import Step
from lookbehind.optim.ascent import CLEAN_GRADIENT, AscentOptions, AscentWrapper
from lookbehind.optim.perturbation import Perturbation, PerturbationName

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch.amp.grad_scaler import GradScaler

T = TypeVar("T")


class FractionSAM(AscentWrapper):
    r"""Climb by the gradient of a part A of the minibatch B, and descend with the gradient found there.

    .. math::
        \phi_t = \phi_{t-1} - \eta \nabla L_B(\phi_{t-1} + \epsilon), \qquad
        \epsilon = \rho \frac{\nabla L_A(\phi_{t-1})}{\|\nabla L_A(\phi_{t-1})\|_2}, \quad |A| = f |B|

    It costs 1 + f gradients a step: ``step([closure_of_A, closure_of_B])``. With ``descend="rest"`` each example is
    used once, so that a step costs one gradient: ``step([closure_of_A, closure_of_the_rest])`` descends with
    :math:`(1 - f) \nabla L_{B \setminus A}(\phi + \epsilon) + f \nabla L_A(\phi)`. Each closure's loss is the mean over
    its own examples.

    ``step`` returns the loss of A at the unperturbed weights. A step that does not climb (``when=``) takes the second
    closure alone and returns its loss; with ``descend="rest"`` it takes both.

    Args:
        base: the optimizer that descends.
        rho: ρ ≥ 0; per group and changeable. Default 0.05, as for SAM.
        fraction: f in (0, 1], the share of A. Only the weights of ``descend="rest"`` depend on it. Default 0.25. Where
            A has another share of whole examples, set ``optimizer.share`` before the step, as ``fit`` does.
        descend: "whole" or "rest". Default "whole".
        perturbation: "sam", "asam" or a rule object. Default "sam".
        **options: see ``AscentOptions``.

    Raises:
        TypeError: if ``base`` is not an optimizer or a number is not a number.
        ValueError: if a number is out of range, a word is unknown, ``base`` itself needs a closure, or
            ``sync_ascent=False`` is given with ``descend="rest"``.

    Example:
        >>> import torch
        >>> from lookbehind import FractionSAM
        >>> model, x = torch.nn.Linear(3, 1), torch.randn(8, 3)
        >>> optimizer = FractionSAM(torch.optim.SGD(model.parameters(), lr=0.1), rho=0.05, fraction=0.25)
        >>> def closure_of(x):
        ...     def closure():
        ...         optimizer.zero_grad()
        ...         loss = model(x).square().mean()
        ...         loss.backward()
        ...         return loss
        ...     return closure
        >>> loss = optimizer.step([closure_of(x[:2]), closure_of(x)])

    """

    base_steps_last = True
    refuses: Mapping[str, str] = MappingProxyType(
        {"LargeGradient": "its first gradient is that of a part of the minibatch"}
    )

    def __init__(
        self,
        base: Optimizer,
        rho: float = 0.05,
        fraction: float = 0.25,
        descend: Literal["whole", "rest"] = "whole",
        *,
        perturbation: PerturbationName | Perturbation = "sam",
        **options: Unpack[AscentOptions],
    ) -> None:
        self.fraction = checked_fraction("fraction", fraction)
        self.share: float | None = None
        self.descend = choice("descend", descend, ("whole", "rest"))
        if descend == "rest" and options.get("sync_ascent") is False:
            raise ValueError(f"FractionSAM with descend='rest' takes no sync_ascent: {CLEAN_GRADIENT}")
        super().__init__(base, {"rho": rho}, perturbation, k=1, **options)

    if TYPE_CHECKING:

        def step(  # type: ignore[override]  # noqa: D102
            self, closure: Sequence[Callable[[], T]], *, grad_scaler: GradScaler | None = None
        ) -> T: ...

    def update(self, step: Step, closures: Sequence[Closure]) -> None:
        """φ ← φ − η ∇L_B(φ + ε), or with (1 − f) ∇L_rest(φ + ε) + f ∇L_A(φ)."""
        self._take_both(step, closures, climbs=True)

    def plain(self, step: Step, closures: Sequence[Closure]) -> None:
        """φ ← φ − η ∇L_B(φ)."""
        if self.descend == "whole":
            step.gradient(closures[1])
            step.descend()
        else:
            self._take_both(step, closures, climbs=False)

    def _take_both(self, step: Step, closures: Sequence[Closure], *, climbs: bool) -> None:
        part, rest = closures
        step.gradient(part, sync=self.ascent.sync)
        g = step.keep_gradients("part") if self.descend == "rest" else []
        if climbs:
            self.ascent.ascend(step)
        step.gradient(rest)
        step.restore()
        if self.descend == "rest":
            share = self.fraction if self.share is None else self.share
            step.combine(1.0 - share, g, share)
        step.descend()

    def _closures(self, closure: Any) -> Sequence[Closure]:
        closures = self._several(closure, None)
        if len(closures) != 2:
            raise ValueError(
                f"step got {len(closures)} closures; two are needed: step([closure_of_A, closure_of_B]), A a part of "
                'the minibatch B, or with descend="rest" step([closure_of_A, closure_of_the_rest])'
            )
        return closures

    def _details(self) -> dict[str, object]:
        return {"fraction": self.fraction, "descend": self.descend, "perturbation": self.perturbation}
