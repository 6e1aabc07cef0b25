"""Ascent rules: from weights and gradients to the perturbation ε. A new rule is one small class."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal, Protocol

import torch
from torch import Tensor

from lookbehind._checks import nonnegative, shown
from lookbehind._distributed import local_tensors
from lookbehind._tensors import norm, unit

State = Mapping[str, list[Tensor]]


class Perturbation(Protocol):
    """The protocol of an ascent rule: a call that returns a direction d and a length ℓ, with ε = ρ d / ℓ.

    Any callable object of this form can be passed as ``perturbation``. The optimizer computes ρ d / ℓ with each group's
    own ρ and adds it to the weights. Where ℓ is 0, ε is 0.

    A rule that needs no gradient (momentum, noise) has the attribute ``needs_gradient = False``. Then the climb comes
    before the first gradient of a step, and a step costs one gradient less.

    A rule that never asks for ``state`` can say so by ``keeps_state = False``. Then a step that is skipped has less to
    put back.

    Args:
        weights: the weights at which the gradient was taken, one tensor for each parameter that has a gradient.
        gradients: their gradients, same shapes. Neither list may be changed.
        state: buffers that the optimizer keeps for the rule: ``state["average"]`` is a list of tensors, one for each
            weight, zero at first. The rule may write to them. They are saved in checkpoints.

    Returns:
        The direction, one tensor for each weight, and the length: a 0-dim tensor, or a list with one for each weight.
        Use ``lookbehind.optim.norm``, which is right for sharded weights too.

    Example:
        Climb along the sign of the gradient, as far as ``Euclidean`` would (‖ε‖₂ = ρ):

        >>> import torch
        >>> from lookbehind import SAM
        >>> from lookbehind.optim import norm
        >>> class Sign:
        ...     def __call__(self, weights, gradients, state):
        ...         direction = [g.sign() for g in gradients]
        ...         return direction, norm(direction)
        >>> model = torch.nn.Linear(3, 1)
        >>> base = torch.optim.SGD(model.parameters(), lr=0.1)
        >>> optimizer = SAM(base, rho=0.05, perturbation=Sign())

    """

    def __call__(
        self, weights: list[Tensor], gradients: list[Tensor], state: State
    ) -> tuple[list[Tensor], Tensor | list[Tensor]]:
        """Return the direction and the length."""
        ...


class RuleState(dict[str, list[Tensor]]):
    """Buffers of a rule, made when the rule first asks for a name."""

    def __init__(self, make: Callable[[str], list[Tensor]]) -> None:
        super().__init__()
        self.make = make

    def __missing__(self, name: str) -> list[Tensor]:
        self[name] = made = self.make(name)
        return made


class Euclidean:
    """SAM's rule: ε = ρ g / ‖g‖₂ (eq. 3), the norm taken over all parameters of the optimizer.

    A zero gradient gives a zero perturbation. With it goes ρ = 0.05 (CIFAR-10, ImageNet) or 0.1 (CIFAR-100), in units
    of the parameters.

    Args:
        limit: if given, the radius shrinks where ‖g‖₂ is larger: ε = ρ min(1, limit / ‖g‖₂) g / ‖g‖₂. That is LE-SAM's
            radius min(σ / ‖g‖₂, ρ_max), with ρ = ρ_max and limit = σ / ρ_max. Default: none.

    Raises:
        ValueError: if ``limit`` is not finite and greater than 0.

    Example:
        >>> import torch
        >>> direction, length = Euclidean()([torch.zeros(2)], [torch.tensor([3.0, 4.0])], {})
        >>> direction[0] / length
        tensor([0.6000, 0.8000])

    """

    keeps_state = False

    def __init__(self, limit: float | None = None) -> None:
        if limit is not None and nonnegative("limit", limit) == 0.0:
            raise ValueError(f"limit is {limit}; a finite number greater than 0, or None, is needed")
        self.limit = limit

    def __call__(self, weights: list[Tensor], gradients: list[Tensor], state: State) -> tuple[list[Tensor], Tensor]:
        """Return g and ‖g‖₂."""
        length = norm(gradients)
        if self.limit is not None:
            length = torch.maximum(length, length * (length / self.limit))
        return gradients, length

    def __repr__(self) -> str:
        return "Euclidean()" if self.limit is None else f"Euclidean(limit={self.limit})"


class Adaptive:
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
        TypeError: if ``named_parameters`` has no names.
        ValueError: if ``eta`` is negative or not finite, or if no name contains "weight".

    Example:
        >>> import torch
        >>> direction, length = Adaptive(eta=0.0)([torch.tensor([2.0, 0.0])], [torch.tensor([1.0, 1.0])], {})
        >>> direction[0] / length
        tensor([2., 0.])

    """

    def __init__(self, eta: float = 0.01, named_parameters: Iterable[tuple[str, Tensor]] | None = None) -> None:
        self.eta = nonnegative("eta", eta)
        self.scaled: set[Tensor] | None = None
        if named_parameters is not None:
            self.scaled = {parameter for name, parameter in _pairs(named_parameters) if "weight" in name}
            if not self.scaled:
                raise ValueError(
                    "named_parameters has no name that contains 'weight'; leave it out to scale all tensors"
                )

    keeps_state = False

    def __call__(self, weights: list[Tensor], gradients: list[Tensor], state: State) -> tuple[list[Tensor], Tensor]:
        """Return T² g and ‖T g‖₂."""
        t = [x.float() if x.dtype is torch.float16 else x for x in self.scale(weights)]  # T² g would leave its range
        t_g = list(torch._foreach_mul(t, local_tensors(gradients)))
        length = norm(t_g, like=gradients)
        torch._foreach_mul_(t_g, t)
        del t  # so that no more than two copies live at a time
        return t_g, length

    def scale(self, weights: list[Tensor]) -> list[Tensor]:
        """Return T: the neighbourhood is ‖T⁻¹ ε‖₂ ≤ ρ."""
        t = list(torch._foreach_abs(local_tensors(weights)))
        torch._foreach_add_(t, self.eta)
        if self.scaled is not None:
            # A complex parameter arrives as a real view of itself.
            named = (w in self.scaled or (w._is_view() and w._base in self.scaled) for w in weights)
            others = [t_w for t_w, scaled in zip(t, named, strict=True) if not scaled]
            if len(others) == len(t):
                raise ValueError(
                    "named_parameters names none of the parameters that have a gradient, so nothing would be scaled; "
                    "pass those of this model, after fully_shard and whatever else replaces parameters"
                )
            for t_w in others:
                t_w.fill_(1.0)
        return t

    def __repr__(self) -> str:
        return f"Adaptive(eta={self.eta}, {'all tensors' if self.scaled is None else 'weights only'})"


def _pairs(named_parameters: Any) -> list[tuple[str, Tensor]]:
    pairs = named_parameters.items() if isinstance(named_parameters, Mapping) else named_parameters
    pairs = list(pairs) if isinstance(pairs, Iterable) else [pairs]
    for pair in pairs:
        if not (isinstance(pair, tuple) and len(pair) == 2 and isinstance(pair[0], str)):
            raise TypeError(
                f"named_parameters has {shown(pair)} in it; pass model.named_parameters(), names with tensors"
            )
    return pairs


PerturbationName = Literal["sam", "asam"]


def perturbation_of(rule: PerturbationName | Perturbation) -> Perturbation:
    """Return the rule object that ``perturbation="sam"``, ``"asam"`` or a rule object stands for."""
    if isinstance(rule, str) and rule in ("sam", "asam"):
        return Euclidean() if rule == "sam" else Adaptive()
    if isinstance(rule, (str, type)) or not callable(rule):
        raise ValueError(
            f"perturbation is {shown(rule)}; allowed are 'sam', 'asam' or a rule object such as Euclidean() or "
            "Adaptive(eta=0.01)"
        )
    try:
        inspect.signature(rule).bind([], [], {})
    except TypeError as error:
        raise TypeError(
            f"perturbation is {shown(rule)}, whose call is {inspect.signature(rule)}; a rule takes "
            "(weights, gradients, state) and returns (direction, length): it climbs by rho * direction / length"
        ) from error
    except ValueError:  # a callable without a signature that Python can read
        pass
    return rule


def unit_perturbation(rule: Perturbation, weights: list[Tensor], gradients: list[Tensor]) -> list[Tensor]:
    """Return ε for ρ = 1 of a rule whose buffers are zero."""
    direction, length = rule(weights, gradients, RuleState(lambda _: [torch.zeros_like(w) for w in weights]))
    return unit(direction, length)
