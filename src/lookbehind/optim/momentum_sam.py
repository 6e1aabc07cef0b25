"""Momentum-SAM: climb against the base optimizer's momentum, at one gradient a step (Becker et al., 2024)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Literal

from torch import Tensor
from torch.optim import Optimizer
from typing_extensions import Unpack

from lookbehind._checks import choice
from lookbehind._tensors import add_, copy_
from lookbehind.optim._evaluation import Closure
from lookbehind.optim._rollback import stateful
from lookbehind.optim._step import Step
from lookbehind.optim.ascent import AscentOptions, AscentWrapper
from lookbehind.optim.perturbation import Perturbation, PerturbationName


class MomentumSAM(AscentWrapper):
    r"""Climb against the momentum, and descend from where you were with the gradient found there: one gradient a step.

    .. math::
        \phi_t = \phi_{t-1} - \eta \nabla L\!\left(\phi_{t-1} - \rho \frac{v}{\|v\|_2}\right)

    with v the base optimizer's momentum: SGD's ``momentum_buffer`` or the ``exp_avg`` of Adam and its kin (Becker et
    al., 2024). For a base with neither, v is the last displacement of the weights, with the opposite sign. In the first
    step there is none, and the step is plain.

    ``step`` returns the loss at the perturbed weights, and running statistics of BatchNorm follow it: a step has no
    other evaluation. ``torch.optim.swa_utils.update_bn`` takes them anew.

    Args:
        base: the optimizer that descends.
        rho: ρ ≥ 0, the length of the perturbation; per group and changeable. It is many times SAM's: the authors have
            3 where SAM has 0.2 (CIFAR-100 and ImageNet, ResNets and ViT). Default 0.3, the published class's.
        along: "momentum" or "displacement". Default: "momentum" if the base has one.
        perturbation: "sam", "asam" or a rule object. Default "sam".
        **options: see ``AscentOptions``.

    Raises:
        TypeError: if ``base`` is not an optimizer or ``rho`` not a number.
        ValueError: if a number is out of range, a word is unknown, ``along`` is "momentum" and the base has none, or
            ``base`` itself needs a closure.

    Example:
        >>> import torch
        >>> from lookbehind import MomentumSAM
        >>> model = torch.nn.Linear(3, 1)
        >>> optimizer = MomentumSAM(torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9), rho=0.3)
        >>> def closure():
        ...     optimizer.zero_grad()
        ...     loss = model(torch.ones(8, 3)).square().mean()
        ...     loss.backward()
        ...     return loss
        >>> loss = optimizer.step(closure)

    """

    base_steps_last = True
    returns_clean_loss = False
    refuses: Mapping[str, str] = MappingProxyType({"sync_ascent": "no gradient goes into its ascent"})

    def __init__(
        self,
        base: Optimizer,
        rho: float = 0.3,
        *,
        along: Literal["momentum", "displacement"] | None = None,
        perturbation: PerturbationName | Perturbation = "sam",
        **options: Unpack[AscentOptions],
    ) -> None:
        has_momentum = _has_momentum(base)
        if along is None:
            along = "momentum" if has_momentum else "displacement"
        self.along = choice("along", along, ("momentum", "displacement"))
        if along == "momentum" and not has_momentum:
            raise ValueError(
                f'along is "momentum", and {type(base).__name__} keeps none of all parameters with these options; give '
                'it momentum, or write along="displacement"'
            )
        self.keeps = ("displacement",) if along == "displacement" else ()
        self._momentum_seen = False
        super().__init__(base, {"rho": rho}, perturbation, k=1, **options)

    def update(self, step: Step, closures: Sequence[Closure]) -> None:
        """φ ← φ − η ∇L(φ − ρ v/‖v‖)."""
        if self.along == "momentum":
            # SGD whose momentum is turned off leaves the last one in its state.
            along = [
                self._momentum(p) if group.get("momentum", True) else None
                for group, params in step.groups
                for p in params
            ]
            self.ascent.ascend(step, along, opposite=True)
        else:
            self.ascent.ascend(step, [step.buffers.get("displacement", p) for p in step.params])
        step.gradient(closures[0])
        step.restore()
        self._descend(step)

    def plain(self, step: Step, closures: Sequence[Closure]) -> None:
        """φ ← φ − η ∇L(φ)."""
        step.gradient(closures[0])
        self._descend(step)

    def _descend(self, step: Step) -> None:
        unsure = self.along == "momentum" and not self._momentum_seen
        moved = [p for p in step.params if p.grad is not None] if unsure else []
        step.descend()
        if self.along == "displacement":
            displacement = step.saved("displacement")
            copy_(displacement, step.params)
            add_(displacement, step.start, -1.0)
        elif moved:  # without any momentum all steps would be plain, without a word
            if all(self._momentum(p) is None for p in moved):
                raise RuntimeError(
                    f"{type(self.base).__name__} keeps its momentum neither as momentum_buffer nor as exp_avg; write "
                    'along="displacement"'
                )
            self._momentum_seen = True

    def _momentum(self, p: Tensor) -> Tensor | None:
        """Return the base optimizer's momentum of a parameter, or None if it has none yet."""
        state = self.base.state.get(p) or {}
        momentum: Tensor | None = state.get("momentum_buffer")
        return state.get("exp_avg") if momentum is None else momentum

    def _details(self) -> dict[str, object]:
        return {"along": self.along, "perturbation": self.perturbation}


def _has_momentum(base: Optimizer) -> bool:
    """Return whether an optimizer keeps a momentum of all parameters. One that shares them out does not."""
    if not isinstance(base, Optimizer) or len(list(stateful(base))) > 1:
        return False
    return all(group.get("momentum") or "betas" in group for group in base.param_groups)
