"""Rules that turn weights and gradients into a perturbation ε. A new rule is one small class."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from lookbehind.optim._arguments import nonnegative
from lookbehind.optim._tensors import norm, unit


@runtime_checkable
class Perturbation(Protocol):
    """What a rule must offer: a call that returns ε for ρ = 1.

    The optimizer multiplies the result by each group's ``rho`` and adds it to the weights. Any callable object of this
    form can be passed as ``perturbation``.

    Args:
        weights: the weights at which the gradient was taken, one tensor for each parameter that has a gradient.
        gradients: their gradients, same shapes. Neither list may be changed.

    Returns:
        The perturbation for ρ = 1, one tensor for each weight, same shapes.

    Example:
        Climb along the sign of the gradient, as far as ``Euclidean`` would (‖ε‖₂ = ρ):

        >>> import torch
        >>> from lookbehind import SAM
        >>> class Sign:
        ...     def __call__(self, weights, gradients):
        ...         n = sum(g.numel() for g in gradients)
        ...         return [g.sign() / n**0.5 for g in gradients]
        >>> model = torch.nn.Linear(3, 1)
        >>> base = torch.optim.SGD(model.parameters(), lr=0.1)
        >>> optimizer = SAM(base, rho=0.05, perturbation=Sign())

    """

    def __call__(self, weights: list[Tensor], gradients: list[Tensor]) -> list[Tensor]:
        """Return ε for ρ = 1."""
        ...


class Directed(ABC):
    """A rule whose ε is a direction divided by a length, so that both can be added to the weights at once."""

    @abstractmethod
    def direction(self, weights: list[Tensor], gradients: list[Tensor]) -> tuple[list[Tensor], Tensor]:
        """Return the direction and the length."""

    def __call__(self, weights: list[Tensor], gradients: list[Tensor]) -> list[Tensor]:
        """Return direction / length."""
        return unit(*self.direction(weights, gradients))


class Euclidean(Directed):
    """SAM's rule: ε = ρ g / ‖g‖₂ (eq. 3), the norm taken over all parameters of the optimizer.

    A zero gradient gives a zero perturbation. With it goes ρ = 0.05 (CIFAR-10, ImageNet) or 0.1 (CIFAR-100), in units
    of the parameters.

    Example:
        >>> import torch
        >>> Euclidean()([torch.zeros(2)], [torch.tensor([3.0, 4.0])])
        [tensor([0.6000, 0.8000])]

    """

    def direction(self, weights: list[Tensor], gradients: list[Tensor]) -> tuple[list[Tensor], Tensor]:
        """Return g and ‖g‖₂."""
        return gradients, norm(gradients)

    def __repr__(self) -> str:
        return "Euclidean()"


class Adaptive(Directed):
    """ASAM's rule: ε = ρ T² g / ‖T g‖₂ with T = |w| + η (eq. 4 is η = 0; Kwon et al., 2021).

    ρ is relative to the size of the weights, so it is about ten times SAM's. Which tensors T scales changes which ρ
    is best:

    * all tensors (the default, eq. 4): ρ = 2.0 was found best by others who scale all tensors;
    * only tensors whose name contains "weight", T = 1 for biases and the like (what the published ASAM and Lookbehind
      code does): ρ = 0.5 (CIFAR-10) or 1.0 (CIFAR-100, ImageNet).

    Args:
        eta: η ≥ 0, keeps zero weights from never being perturbed. Default 0.01, as in the published ASAM class; the
            published training scripts pass 0, which is eq. 4.
        named_parameters: ``model.named_parameters()``, to scale only tensors whose name contains "weight". Default:
            scale all tensors.

    Raises:
        ValueError: if ``eta`` is negative or not finite, or if no name contains "weight".

    Example:
        >>> import torch
        >>> Adaptive(eta=0.0)([torch.tensor([2.0, 0.0])], [torch.tensor([1.0, 1.0])])
        [tensor([2., 0.])]

    """

    def __init__(self, eta: float = 0.01, named_parameters: Iterable[tuple[str, Tensor]] | None = None) -> None:
        self.eta = nonnegative("eta", eta)
        self.scaled: set[Tensor] | None = None
        if named_parameters is not None:
            self.scaled = {parameter for name, parameter in named_parameters if "weight" in name}
            if not self.scaled:
                raise ValueError(
                    "named_parameters has no name that contains 'weight'; leave it out to scale all tensors"
                )

    def direction(self, weights: list[Tensor], gradients: list[Tensor]) -> tuple[list[Tensor], Tensor]:
        """Return T² g and ‖T g‖₂."""
        t = self.scale(weights)
        t_g = list(torch._foreach_mul(t, gradients))
        length = norm(t_g)
        torch._foreach_mul_(t_g, t)
        del t  # so that no more than two copies live at a time
        return t_g, length

    def scale(self, weights: list[Tensor]) -> list[Tensor]:
        """Return T: the neighbourhood is ‖T⁻¹ ε‖₂ ≤ ρ."""
        t = list(torch._foreach_abs(weights))
        torch._foreach_add_(t, self.eta)
        if self.scaled is not None:
            for w, t_w in zip(weights, t, strict=True):
                # A complex parameter arrives as a real view of itself.
                if (w._base if w._is_view() else w) not in self.scaled:
                    t_w.fill_(1.0)
        return t

    def __repr__(self) -> str:
        return f"Adaptive(eta={self.eta}, {'all tensors' if self.scaled is None else 'weights only'})"


def perturbation_of(rule: str | Perturbation) -> Perturbation:
    """Return the rule object that ``perturbation="sam"``, ``"asam"`` or a rule object stands for."""
    if rule == "sam":
        return Euclidean()
    if rule == "asam":
        return Adaptive()
    if isinstance(rule, str) or not callable(rule) or isinstance(rule, type):
        raise ValueError(
            f"perturbation is {rule!r}; allowed are 'sam', 'asam' or a rule object such as Euclidean() or "
            "Adaptive(eta=0.01)"
        )
    return rule


def direction(rule: Perturbation, weights: list[Tensor], gradients: list[Tensor]) -> tuple[list[Tensor], Tensor | None]:
    """Return ε for ρ = 1, or a direction and the length to divide it by if the rule tells them apart."""
    # Of a class that overrides the call of a rule, the call is meant.
    if isinstance(rule, Directed) and type(rule).__call__ is Directed.__call__:
        return rule.direction(weights, gradients)
    return rule(weights, gradients), None
