"""SAM (Foret et al., 2021) and ASAM (Kwon et al., 2021)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.optim import Optimizer

from lookbehind._tensors import copy_
from lookbehind.optim._passes import Closure
from lookbehind.optim.climb import Climber
from lookbehind.optim.perturbation import Perturbation, PerturbationName


class SAM(Climber):
    r"""Climb once, and descend from where you were with the gradient found there.

    .. math::
        \phi_t = \phi_{t-1} - \eta \nabla L(\phi_{t-1} + \epsilon), \qquad
        \epsilon = \rho \frac{\nabla L(\phi_{t-1})}{\|\nabla L(\phi_{t-1})\|_2}

    (eq. 2 and 3 of Mordido et al., 2024; Foret et al., 2021), or with ``perturbation="asam"`` the rescaled ε of eq. 4.
    Two gradients a step. The descent is the base optimizer's, so weight decay and momentum act on the unperturbed
    weights.

    Args:
        base: the optimizer that descends, e.g. ``torch.optim.SGD(model.parameters(), lr=0.1)``.
        rho: ρ ≥ 0, the length of ε over all parameters (for ASAM relative to the weights). A group may have a
            ``"rho"`` of its own, and it can be changed during training. Default 0.05.
        perturbation: "sam", "asam", or a rule such as ``Adaptive(eta=0.0)``. Default "sam".
        model: if given, its BatchNorm running statistics follow the unperturbed pass only. Default: every pass.
        nonfinite: what an infinite or NaN gradient does: "propagate" (as in torch's optimizers, the default), "skip"
            the step and count it in ``skipped_steps``, or "raise" ``NonfiniteGradientError``. The latter two wait for
            the device once a gradient, and keep a copy of the base optimizer's state for "skip".
        rollback: what is put back when a step fails: "weights" (the default) or "full", with the base optimizer's
            state, counters and torch's random state, at the price of a copy of that state each step.
        rng: "fresh" lets dropout draw new masks in each pass, as the paper's code does (the default); "shared" lets all
            passes of a step draw the same.
        perturb: with ``DistributedDataParallel``, "global" is one ε from the averaged gradient (the default); "rank" is
            each process's own ε, from the gradient of its own part of the minibatch (m-sharpness with m the part's
            size), with fewer bytes sent. "rank" needs ``model`` to be the ``DistributedDataParallel`` module.

    Raises:
        TypeError: if ``base`` is not an optimizer or ``rho`` not a number.
        ValueError: if ``rho`` is negative or not finite, a word is unknown, or ``base`` itself needs a closure.

    Example:
        >>> import torch
        >>> from lookbehind import SAM
        >>> model = torch.nn.Linear(3, 1)
        >>> optimizer = SAM(torch.optim.SGD(model.parameters(), lr=0.1), rho=0.05)
        >>> inputs, targets = torch.randn(8, 3), torch.randn(8, 1)
        >>> def closure():
        ...     optimizer.zero_grad()
        ...     loss = torch.nn.functional.mse_loss(model(inputs), targets)
        ...     loss.backward()
        ...     return loss
        >>> loss = optimizer.step(closure)

    """

    base_moves_last = True

    def __init__(
        self,
        base: Optimizer,
        rho: float = 0.05,
        *,
        perturbation: PerturbationName | Perturbation = "sam",
        model: torch.nn.Module | None = None,
        nonfinite: str = "propagate",
        rollback: str = "weights",
        rng: str = "fresh",
        perturb: str = "global",
    ) -> None:
        super().__init__(
            base,
            rho,
            1,
            perturbation,
            model=model,
            nonfinite=nonfinite,
            rollback=rollback,
            rng=rng,
            perturb=perturb,
        )

    def _update(self, closures: Sequence[Closure], slow: list[Tensor]) -> None:
        for _ in self._climb(closures):  # ∇L(φ + ε)
            copy_(self._weights, slow)  # φ
            self.base.step()
