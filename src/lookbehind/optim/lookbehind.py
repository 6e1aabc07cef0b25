"""Lookbehind: k steps back, 1 step forward (Mordido et al., 2024)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from lookbehind._checks import fraction
from lookbehind._tensors import add_, copy_, dots, lerp_
from lookbehind.optim._memory import Places
from lookbehind.optim._passes import Closure
from lookbehind.optim.climb import Climber
from lookbehind.optim.interpolation import aligned_alpha
from lookbehind.optim.perturbation import Perturbation, PerturbationName

_ADAPTIVE = ("adaptive", "adaptive_per_tensor")


class Lookbehind(Climber):
    r"""Climb k times, descend fast weights with every gradient met on the way, then follow them with slow weights.

    .. math::
        \phi'_{t,i} &= \phi'_{t,i-1} + \rho \frac{\nabla L(\phi'_{t,i-1})}{\|\nabla L(\phi'_{t,i-1})\|_2}, &
        \phi_{t,i} &= \phi_{t,i-1} - \eta \nabla L(\phi'_{t,i}), & i &= 1, \dots, k \\
        \phi_t &= \phi_{t-1} + \alpha (\phi_{t,k} - \phi_{t-1})

    with :math:`\phi_{t,0} = \phi'_{t,0} = \phi_{t-1}` (algorithm 1 of Mordido et al., 2024). k + 1 gradients and k base
    steps an outer step: the gradient of line 8 at :math:`\phi'_{t,i}` is line 6's of the next inner step.

    The base optimizer's momentum and weight decay act in each of the k inner steps, at the fast weights, and its state
    is kept when fast and slow weights meet, as in the published code.

    Args:
        base: the optimizer that moves the fast weights.
        rho: ρ ≥ 0, the length of each ascent; per group and changeable. Staying within a neighbourhood ρ (appendix
            A.2.3) is ``rho=rho / k, alpha=1.0``. Default 0.05.
        k: number of inner steps. Default 2.
        alpha: α in (0, 1], the outer step size, per group and changeable; "adaptive" for α* of eq. 6-7, one for all
            parameters; "adaptive_per_tensor" for one α* a tensor, which is what the published code does. With an
            adaptive α, ``alpha_star`` holds the last α* as a tensor. Default 0.5.
        perturbation: "sam", "asam" or a rule object. ASAM rescales by the current, perturbed weights. Default "sam".
        model: as in ``SAM``.
        nonfinite: as in ``SAM``.
        rollback: as in ``SAM``.
        rng: as in ``SAM``.
        perturb: as in ``SAM``.

    Raises:
        TypeError: if ``base`` is not an optimizer, a number is not a number, or ``k`` not a whole number.
        ValueError: if a number is out of range, a word is unknown, or ``base`` itself needs a closure.

    Example:
        >>> import torch
        >>> from lookbehind import Lookbehind
        >>> model = torch.nn.Linear(3, 1)
        >>> optimizer = Lookbehind(torch.optim.SGD(model.parameters(), lr=0.1), rho=0.05, k=2, alpha=0.5)
        >>> inputs, targets = torch.randn(2, 8, 3), torch.randn(2, 8, 1)
        >>> def minibatch(i):
        ...     def closure():
        ...         optimizer.zero_grad()
        ...         loss = torch.nn.functional.mse_loss(model(inputs[i]), targets[i])
        ...         loss.backward()
        ...         return loss
        ...     return closure
        >>> loss = optimizer.step(minibatch(0))
        >>> loss = optimizer.step([minibatch(0), minibatch(1)])  # switching minibatches, section 6.2

    """

    def __init__(
        self,
        base: Optimizer,
        rho: float = 0.05,
        k: int = 2,
        alpha: float | str = 0.5,
        *,
        perturbation: PerturbationName | Perturbation = "sam",
        model: torch.nn.Module | None = None,
        nonfinite: str = "propagate",
        rollback: str = "weights",
        rng: str = "fresh",
        perturb: str = "global",
    ) -> None:
        if isinstance(alpha, str) and alpha not in _ADAPTIVE:
            raise ValueError(f"alpha is {alpha!r}; allowed are a number in (0, 1], 'adaptive' or 'adaptive_per_tensor'")
        self.adaptive = alpha if isinstance(alpha, str) else None
        self.alpha_star: Tensor | None = None
        entries = {} if isinstance(alpha, str) else {"alpha": alpha}
        super().__init__(
            base,
            rho,
            k,
            perturbation,
            model=model,
            nonfinite=nonfinite,
            rollback=rollback,
            rng=rng,
            perturb=perturb,
            **entries,
        )

    def _check(self, name: str, value: Any) -> Any:
        return fraction("alpha", value) if name == "alpha" else super()._check(name, value)

    def _closures(self, closure: Any) -> Sequence[Closure]:
        if not isinstance(closure, (list, tuple)):
            return super()._closures(closure)
        if len(closure) != self.k:
            raise ValueError(f"step got {len(closure)} closures; k = {self.k} are needed, one for each inner step")
        return [c for one in closure for c in super(Lookbehind, self)._closures(one)]

    def _update(self, closures: Sequence[Closure], slow: list[Tensor]) -> None:
        weights = self._weights  # the model holds φ' while closures run, and φ_{t,i} while the base steps
        fast = self._like("fast", weights)
        first = self._like("first", weights) if self.adaptive else []
        self._places = Places(weights, fast)
        copy_(fast, slow)  # line 2: φ_{t,0} ← φ_{t-1}
        for i in self._climb(closures):  # lines 5-7: φ'_{t,i} and ∇L(φ'_{t,i})
            with self._places.changed():
                self.base.step()  # line 8: φ_{t,i} ← φ_{t,i-1} − η ∇L(φ'_{t,i})
            if i == 1:
                copy_(first, fast)  # φ_{t,1}, for an adaptive α
        alphas = self._alphas(slow, first, fast) if self.adaptive else []
        copy_(weights, slow)
        if self.adaptive:
            lerp_(weights, fast, alphas)  # line 10: φ_t ← φ_{t-1} + α (φ_{t,k} − φ_{t-1})
        else:
            start = 0
            for group, part in self._parts:
                end = start + len(part)
                lerp_(part, fast[start:end], float(group[self.group_key("alpha")]))
                start = end

    def _alphas(self, slow: list[Tensor], first: list[Tensor], fast: list[Tensor]) -> list[Tensor]:
        """Return α* for each tensor. φ_{t,1} and φ'_{t,k} are no longer needed: d_1 and d_k take their room."""
        if not slow:
            return []
        d_1, d_k = first, self._weights
        copy_(d_k, fast)  # φ_{t,k}
        add_(d_1, slow, -1.0)
        add_(d_k, slow, -1.0)
        sums = [dots(d_1, d_k), dots(d_1, d_1), dots(d_k, d_k)]
        if self.adaptive == "adaptive":
            sums = [s.sum().expand(len(slow)) for s in sums]
        alphas = aligned_alpha(*sums)
        self.alpha_star = alphas[0] if self.adaptive == "adaptive" else alphas
        return list(alphas.unbind())
