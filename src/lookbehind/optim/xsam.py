"""XSAM: descend along the direction in which the loss is largest, between climb and gradient (Chen & Zhou, 2026)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel
from torch.optim import Optimizer
from typing_extensions import Unpack

from lookbehind._checks import nonnegative, number, shown
from lookbehind._distributed import averages
from lookbehind._modes import clear_weight_caches
from lookbehind._tensors import add_, copy_, ratio, scale_, scaled
from lookbehind.optim._evaluation import Closure
from lookbehind.optim._rollback import uninterrupted, without_grad
from lookbehind.optim._step import Step
from lookbehind.optim._wrapper import STEPS
from lookbehind.optim.ascent import AscentOptions, AscentWrapper
from lookbehind.optim.perturbation import Perturbation, PerturbationName

GRID = [round(0.1 * i, 1) for i in range(21)]


class XSAM(AscentWrapper):
    r"""Descend along a direction between the climb and the gradient at its end, as long as that gradient.

    .. math::
        \phi_t = \phi_{t-1} - \eta \, \|g_k\|_2 \, \mathrm{slerp}(v_0, v_1; \alpha), \qquad
        v_0 = \frac{\phi'_k - \phi_{t-1}}{\|\phi'_k - \phi_{t-1}\|_2}, \quad v_1 = \frac{g_k}{\|g_k\|_2}

    with g_k the gradient at φ'_k, after k ascents (Chen & Zhou, 2026). At the angle θ between v₀ and v₁, slerp(v₀, v₁;
    α) = (sin((1 − α) θ) v₀ + sin(α θ) v₁) / sin θ. k + 1 gradients a step. α = 1 is Multistep-SAM with its last
    gradient. Where v₀ is zero, or v₁ along or against it up to rounding, the gradient is taken as it is. A parameter
    that lacks a gradient in some evaluations counts as zero there; without any it does not move.

    ``search`` chooses α: once an epoch, with 21 forward passes.

    Args:
        base: the optimizer that descends.
        rho: ρ ≥ 0, the length of each of the k ascents; per group and changeable. Default 0.15; the paper has 0.15 / k.
        k: number of ascents. Default 1.
        alpha: α in [0, 2]; in the parameter groups, one for all. Default 1.
        rho_max: the distance at which ``search`` looks. Default 0.3, the paper's.
        perturbation: "sam", "asam" or a rule object. Default "sam".
        **options: see ``AscentOptions``.

    Raises:
        TypeError: if ``base`` is not an optimizer, a number is not a number, or ``k`` not a whole number.
        ValueError: if a number is out of range, a word is unknown, or ``base`` itself needs a closure.

    Example:
        >>> import torch
        >>> from lookbehind import XSAM
        >>> model, x = torch.nn.Linear(3, 1), torch.randn(8, 3)
        >>> optimizer = XSAM(torch.optim.SGD(model.parameters(), lr=0.1), rho=0.15)
        >>> def closure():
        ...     optimizer.zero_grad()
        ...     loss = model(x).square().mean()
        ...     loss.backward()
        ...     return loss
        >>> alpha = optimizer.search(closure, lambda: model(x).square().mean())
        >>> loss = optimizer.step(closure)

    """

    base_steps_last = True
    refuses: Mapping[str, str] = MappingProxyType({"sync_ascent": "the climb descends too, so ranks must climb alike"})

    def __init__(
        self,
        base: Optimizer,
        rho: float = 0.15,
        k: int = 1,
        alpha: float = 1.0,
        *,
        rho_max: float = 0.3,
        perturbation: PerturbationName | Perturbation = "sam",
        **options: Unpack[AscentOptions],
    ) -> None:
        self.rho_max = nonnegative("rho_max", rho_max)
        super().__init__(base, {"rho": rho, "alpha": alpha}, perturbation, k, **options)

    def update(self, step: Step, closures: Sequence[Closure]) -> None:
        """φ ← φ − η ‖g_k‖ slerp(v₀, v₁; α)."""
        v_0 = self._climb(step, closures[0])
        length = step.norm([p.grad for p in step.params])
        of_v_0, of_gradient = self._shares(step, v_0, length, self._entry(self.group_key("alpha"), 1.0))
        step.combine(of_gradient, v_0, of_v_0)
        step.descend()

    def _climb(self, step: Step, closure: Closure) -> list[Tensor | None]:
        """Leave g_k in ``.grad`` and φ in the model; return φ'_k − φ with the sign of ``.grad``.

        It is None for a parameter without any gradient: a rule that needs none may have moved it.
        """
        climb, seen = step.scratch("climb"), [False] * len(step.params)
        for i in range(self.k + 1):
            if i == self.k or self.ascent.needs_gradient:
                step.gradient(closure)  # ∇L(φ'ᵢ)
                seen = [before or p.grad is not None for before, p in zip(seen, step.params, strict=True)]
            if i < self.k:
                self.ascent.ascend(step)  # φ'ᵢ₊₁
        copy_(climb, step.params)
        add_(climb, step.start, -1.0)
        for group, _, part in step.by_group(climb):
            if group.get("maximize"):
                scale_(part, -1.0)
        step.restore()
        return [v if some else None for v, some in zip(climb, seen, strict=True)]

    def _shares(self, step: Step, v_0: Sequence[Tensor | None], length: Tensor, alpha: float) -> tuple[Tensor, Tensor]:
        """Return the factors of φ'_k − φ and of g_k in ‖g_k‖ · slerp."""
        length_0 = step.norm(v_0)
        cosine = ratio(ratio(step.dot(v_0, [p.grad for p in step.params]), length), length_0).clamp(-1.0, 1.0)
        theta = cosine.arccos()
        sine = theta.sin()
        # The sums are at least single precision. Against each other, v₀ and v₁ cancel to what their own dtype resolves.
        rounding = 16 * torch.finfo(cosine.dtype).eps
        opposite = 2 * max((torch.finfo(dtype).eps for dtype in {p.dtype for p in step.params}), default=0.0)
        plain = (length == 0) | (length_0 == 0) | (cosine.abs() >= 1.0 - rounding)
        plain |= (cosine < 0) & (sine < opposite)
        of_v_0 = ratio(((1.0 - alpha) * theta).sin() * ratio(length, length_0), sine).masked_fill(plain, 0.0)
        of_gradient = ratio((alpha * theta).sin(), sine).masked_fill(plain, 1.0)
        return of_v_0, of_gradient

    @without_grad
    def search(self, closure: Closure, loss: Callable[[], Any]) -> float:
        r"""Set α to where the loss is largest on the arc, :math:`\arg\max_\alpha L(\phi + \rho_{\max} \mathrm{slerp})`.

        Weights, gradients and, with ``model=``, running statistics are then as before. It reads 21 losses from the
        device. Where several are equal, the one nearest to 1 is taken; if none is finite, α stays.

        Args:
            closure: an ordinary closure of one minibatch, called k + 1 times.
            loss: a forward pass on the same minibatch; returns the loss. On several ranks it must return the same
                number on each, but for a ``DistributedDataParallel`` model, whose ranks' losses are averaged here.

        Returns:
            α in [0, 2].

        """
        self._require_no_step("search was called")
        self._require_base()
        groups, left_out = self._taking_part()
        evaluator = self._evaluator(groups, None)
        gradients = [(p, p.grad, None if p.grad is None else p.grad.clone()) for p in evaluator.params]
        step, rollback = self._begin(evaluator, groups, left_out)
        try:
            v_0 = self._climb(step, closure)
            length = step.norm([p.grad for p in step.params])
            found = {alpha: self._loss_at(step, v_0, length, alpha, loss) for alpha in GRID}
        finally:
            uninterrupted(rollback.restore)
            clear_weight_caches()
            for p, gradient, values in gradients:
                p.grad = gradient if gradient is None or values is None else gradient.copy_(values)
        finite = [alpha for alpha in GRID if torch.tensor(found[alpha]).isfinite()]
        if finite:
            sign = -1.0 if self._entry("maximize", False) else 1.0  # the worst of a reward is its least
            best = max(finite, key=lambda alpha: (sign * found[alpha], -abs(alpha - 1.0)))
            self._set(self.group_key("alpha"), best)
        return float(self._entry(self.group_key("alpha"), 1.0))

    def _loss_at(
        self, step: Step, v_0: Sequence[Tensor | None], length: Tensor, alpha: float, loss: Callable[[], Any]
    ) -> float:
        of_v_0, of_gradient = (
            ratio(factor, length) * self.rho_max for factor in self._shares(step, v_0, length, alpha)
        )
        step.restore()
        for group, params, part in step.by_group(list(v_0)):
            sign = -1.0 if group.get("maximize") else 1.0
            for directions, factor in ((part, of_v_0), ([p.grad for p in params], of_gradient)):
                held = [(p, d) for p, d in zip(params, directions, strict=True) if d is not None]
                add_([p for p, _ in held], scaled([d for _, d in held], factor), sign)
        clear_weight_caches()
        value = loss()
        value = value.detach().mean() if isinstance(value, Tensor) else torch.tensor(float(value))
        if isinstance(self.model, DistributedDataParallel):
            [value] = averages([value], self.model)
        return float(value.item())

    def _check(self, name: str, value: Any) -> Any:
        if name != "alpha":
            return super()._check(name, value)
        if not 0.0 <= number("alpha", value) <= 2.0:
            raise ValueError(f"alpha is {shown(value)}; a number between 0 and 2 is needed")
        return number("alpha", value)

    def _details(self) -> dict[str, object]:
        return {"k": self.k, "perturbation": self.perturbation}


STEPS.add(id(XSAM.search.__wrapped__.__code__))  # type: ignore[attr-defined]
