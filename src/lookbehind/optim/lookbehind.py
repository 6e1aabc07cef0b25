"""Lookbehind: k steps back, 1 step forward (Mordido et al., 2024)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from torch import Tensor
from torch.optim import Optimizer
from typing_extensions import Unpack

from lookbehind._checks import choice, fraction
from lookbehind._tensors import add_, copy_, dots, lerp_from_
from lookbehind.optim._evaluation import Closure
from lookbehind.optim._step import Step
from lookbehind.optim.ascent import AscentOptions, AscentWrapper
from lookbehind.optim.perturbation import Perturbation, PerturbationName

if TYPE_CHECKING:
    from torch.amp.grad_scaler import GradScaler

T = TypeVar("T")


class Lookbehind(AscentWrapper):
    r"""Climb k times, descend fast weights with every gradient met on the way, then follow them with slow weights.

    .. math::
        \phi'_{t,i} &= \phi'_{t,i-1} + \rho \frac{\nabla L(\phi'_{t,i-1})}{\|\nabla L(\phi'_{t,i-1})\|_2}, &
        \phi_{t,i} &= \phi_{t,i-1} - \eta \nabla L(\phi'_{t,i}), & i &= 1, \dots, k \\
        \phi_t &= \phi_{t-1} + \alpha (\phi_{t,k} - \phi_{t-1})

    with :math:`\phi_{t,0} = \phi'_{t,0} = \phi_{t-1}` (algorithm 1 of Mordido et al., 2024). k + 1 gradients and k base
    steps an outer step: the gradient of line 8 at :math:`\phi'_{t,i}` is line 6's of the next inner step.

    The base optimizer's momentum and weight decay act in each of the k inner steps, at the fast weights. Its state is
    kept when fast and slow weights meet, as in the published code.

    Args:
        base: the optimizer that moves the fast weights.
        rho: ρ ≥ 0, the length of each ascent; per group and changeable. Staying within a neighbourhood ρ (appendix
            A.2.3) is ``rho=rho / k, alpha=1.0``. Default 0.05.
        k: number of inner steps. Default 2.
        alpha: α in (0, 1], the outer step size, per group and changeable; "adaptive" for α* of eq. 6-7, one for all
            parameters; "adaptive_per_tensor" for one α* a tensor, which is what the published code does. With an
            adaptive α, ``alpha_star`` holds the last α* as a tensor. Default 0.5.
        perturbation: "sam", "asam" or a rule object. ASAM rescales by the current, perturbed weights. Default "sam".
        **options: see ``AscentOptions``.

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

    moves_after_base = True

    def __init__(
        self,
        base: Optimizer,
        rho: float = 0.05,
        k: int = 2,
        alpha: float | Literal["adaptive", "adaptive_per_tensor"] = 0.5,
        *,
        perturbation: PerturbationName | Perturbation = "sam",
        **options: Unpack[AscentOptions],
    ) -> None:
        if isinstance(alpha, str):
            choice("alpha", alpha, ("adaptive", "adaptive_per_tensor"), "or a number in (0, 1]")
        self.adaptive = alpha if isinstance(alpha, str) else None
        self.alpha_star: Tensor | None = None
        entries = {"rho": rho} if isinstance(alpha, str) else {"rho": rho, "alpha": alpha}
        super().__init__(base, entries, perturbation, k, **options)

    if TYPE_CHECKING:  # minibatches that switch come as a list

        def step(  # type: ignore[override]  # noqa: D102
            self, closure: Callable[[], T] | Sequence[Callable[[], T]], *, grad_scaler: GradScaler | None = None
        ) -> T: ...

    def update(self, step: Step, closures: Sequence[Closure]) -> None:
        """Algorithm 1. The model holds φ' while closures run, φ_{t,i} while the base steps, and φ_{t,k} at the end."""
        fast, held = step.start, step.scratch("fast")  # line 2: φ_{t,0} ← φ_{t-1}
        first = step.scratch("first") if self.adaptive else []
        for inner in self.ascent.inner_steps(closures):
            self.ascent.climb(step, inner)  # lines 5-7: φ'_{t,i} and ∇L(φ'_{t,i})
            last = inner.number == self.k
            step.descend(at=fast, to=None if last else held)  # line 8: φ_{t,i} ← φ_{t,i-1} − η ∇L(φ'_{t,i})
            fast = step.params if last else held
            if inner.number == 1:
                copy_(first, fast)  # φ_{t,1}, for an adaptive α
        if self.adaptive:
            lerp_from_(step.params, step.start, self._alphas(step, first, held))
        else:  # line 10: φ_t ← φ_{t-1} + α (φ_{t,k} − φ_{t-1})
            for group, params, slow in step.by_group(step.start):
                lerp_from_(params, slow, group[self.group_key("alpha")])

    def _alphas(self, step: Step, first: list[Tensor], held: list[Tensor]) -> list[Tensor]:
        """Return α* for each tensor. d_1 and d_k take the memory of weights that are no longer needed."""
        if not step.params:
            return []
        d_1, d_k = first, held
        copy_(d_k, step.params)  # φ_{t,k}
        add_(d_1, step.start, -1.0)
        add_(d_k, step.start, -1.0)
        sums = [dots(d_1, d_k), dots(d_1, d_1), dots(d_k, d_k)]
        if self.adaptive == "adaptive":
            sums = [s.sum().expand(len(held)) for s in sums]
        alphas = aligned_alpha(*sums)
        self.alpha_star = alphas[0] if self.adaptive == "adaptive" else alphas
        return list(alphas.unbind())

    def _closures(self, closure: Any) -> Sequence[Closure]:
        return self._several(closure, self.k) if isinstance(closure, (list, tuple)) else super()._closures(closure)

    def _check(self, name: str, value: Any) -> Any:
        return fraction("alpha", value) if name == "alpha" else super()._check(name, value)

    def _details(self) -> dict[str, object]:
        adaptive = {"alpha": self.adaptive} if self.adaptive else {}
        return {"k": self.k, **adaptive, "perturbation": self.perturbation}


def aligned_alpha(dot: Tensor, square_1: Tensor, square_k: Tensor) -> Tensor:
    """Return α* = (cos θ + 1) / 2 (eq. 6), with cos θ = ⟨d₁, dₖ⟩ / (‖d₁‖ ‖dₖ‖) (eq. 7).

    d₁ = φ_{t,1} − φ_t is the first fast step and dₖ = φ_{t,k} − φ_t the sum of all. (Eq. 7 calls the cosine θ.) If one
    of them is zero there is no angle: cos θ = 0 and α* = ½, as in the published code.

    Args:
        dot: ⟨d₁, dₖ⟩.
        square_1: ‖d₁‖².
        square_k: ‖dₖ‖².

    Returns:
        α* in [0, 1], of the shape of ``dot``.

    Example:
        >>> import torch
        >>> aligned_alpha(torch.tensor(1.0), torch.tensor(1.0), torch.tensor(4.0))
        tensor(0.7500)

    """
    length = square_1.sqrt() * square_k.sqrt()
    cosine = (dot / length).masked_fill(length == 0, 0.0).clamp(-1.0, 1.0)
    return (cosine + 1) / 2
