"""SAM (Foret et al., 2021) and ASAM (Kwon et al., 2021)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from torch import Tensor
from torch.optim import Optimizer
from typing_extensions import Unpack

from lookbehind.optim._evaluation import Closure
from lookbehind.optim._step import Step
from lookbehind.optim.ascent import AscentOptions, AscentWrapper
from lookbehind.optim.perturbation import Adaptive, Perturbation, PerturbationName


class SAM(AscentWrapper):
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
        **options: what all methods that climb have in common; see ``AscentOptions``.

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

    base_steps_last = True

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
        """φ ← φ − η ∇L(φ + ε)."""
        for inner in self.ascent.inner_steps(closures):
            self.ascent.climb(step, inner)  # ∇L(φ + ε)
        step.restore()  # φ
        step.descend()


class ASAM(SAM):
    r"""Climb once within a neighbourhood that scales with the weights: SAM with ``perturbation=Adaptive(eta)``.

    .. math::
        \epsilon = \rho \frac{T^2 \nabla L(\phi)}{\|T \nabla L(\phi)\|_2}, \qquad T = |\phi| + \eta

    (Kwon et al., 2021; eq. 4 of Mordido et al., 2024 is :math:`\eta = 0`). Two gradients a step.

    Args:
        base: the optimizer that descends.
        rho: ρ ≥ 0, relative to the size of the weights. Default 0.5, the published code's for CIFAR-10.
        eta: η ≥ 0, as in ``Adaptive``. Default 0.01.
        named_parameters: ``model.named_parameters()``, to scale only weights, as in ``Adaptive``. Default: scale all.
        **options: see ``AscentOptions``.

    Raises:
        TypeError: if ``base`` is not an optimizer or a number is not a number.
        ValueError: if a number is out of range, a word is unknown, or ``base`` itself needs a closure.

    Example:
        >>> import torch
        >>> from lookbehind import ASAM
        >>> model = torch.nn.Linear(3, 1)
        >>> optimizer = ASAM(torch.optim.SGD(model.parameters(), lr=0.1), rho=0.5)

    """

    def __init__(
        self,
        base: Optimizer,
        rho: float = 0.5,
        *,
        eta: float = 0.01,
        named_parameters: Iterable[tuple[str, Tensor]] | None = None,
        **options: Unpack[AscentOptions],
    ) -> None:
        super().__init__(base, rho, perturbation=Adaptive(eta, named_parameters), **options)
