"""One step in progress: everything that a method may touch."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor

from lookbehind._distributed import averages
from lookbehind._tensors import add_, as_real, clones, copy_, dots, norm, scale_
from lookbehind.optim._buffers import Buffers
from lookbehind.optim._evaluation import Closure, GradientEvaluator
from lookbehind.optim._rollback import Rollback

Group = dict[str, Any]
T = TypeVar("T")


class Step:
    """One step in progress.

    Args:
        params: the parameters that take part in the step.
        groups: the parameter groups, each with its part of these.
        left_out: the other parameters.
        buffers: the tensors that the optimizer keeps for its parameters.
        evaluator: what evaluates gradients.
        rollback: what a failed step puts back.
        start: copies of the parameters at the start of the step. Leave them as they are.
        base_step: lets the base optimizer step.
        model: the ``DistributedDataParallel`` module whose ranks average gradients of their own, if any.

    """

    number = 0  # of the step, counted from 0, for methods that count
    radius_factor = 1.0  # what ρ is multiplied by in this step
    _local = False  # whether .grad holds this rank's own gradients

    def __init__(
        self,
        params: list[Tensor],
        groups: Sequence[tuple[Group, list[Tensor]]],
        *,
        left_out: Sequence[Tensor],
        buffers: Buffers,
        evaluator: GradientEvaluator,
        rollback: Rollback,
        start: list[Tensor],
        base_step: Callable[[], Any],
        model: Any,
    ) -> None:
        self.params, self.groups, self._left_out = params, groups, left_out
        self.start = start
        self.buffers = buffers
        self._evaluator, self._rollback = evaluator, rollback
        self._base_step, self._model = base_step, model

    def gradient(self, closure: Closure, *, sync: bool = True) -> Any:
        """Leave the gradient at the weights that the model holds in ``.grad``; return the loss.

        Args:
            closure: an ordinary closure.
            sync: whether the ranks of a ``DistributedDataParallel`` model average the gradient.

        """
        self._local = not sync
        loss = self._evaluator.gradient(closure, sync=sync)
        for p in self._left_out:
            if p.grad is not None:  # the base would move it
                raise RuntimeError(
                    "a parameter got a gradient within the step, but had requires_grad=False before it, so nothing "
                    "perturbs it; call requires_grad_(True) before optimizer.step(closure), not in the closure"
                )
        return loss

    def ahead(self, closure: Closure) -> None:
        """Leave the first gradient of the step in ``.grad`` already; the next ``gradient`` need not evaluate it."""
        self._evaluator.ahead(closure)
        self._evaluator.check()

    def gradients(self) -> list[Tensor | None]:
        """Return the gradients in ``.grad`` of what is minimised; None for a parameter without."""
        found: list[Tensor | None] = []
        for group, params in self.groups:
            maximize = group.get("maximize")
            found += [-p.grad if maximize and p.grad is not None else p.grad for p in params]
        return found

    def norm(self, tensors: Sequence[Tensor | None]) -> Tensor:
        """Return ‖·‖₂ over one tensor for each parameter, with None for zero: a 0-dim tensor."""
        return norm(as_real(self._full(tensors))) if self.params else torch.zeros(())

    def dot(self, a: Sequence[Tensor | None], b: Sequence[Tensor | None]) -> Tensor:
        """Return ⟨a, b⟩ of one tensor for each parameter, with None for zero: a 0-dim tensor."""
        return dots(self._full(a), self._full(b)).sum() if self.params else torch.zeros(())

    def _full(self, tensors: Sequence[Tensor | None]) -> list[Tensor]:
        return [torch.zeros_like(p) if t is None else t for p, t in zip(self.params, tensors, strict=True)]

    def keep_gradients(self, name: str) -> list[Tensor | None]:
        """Copy the gradients in ``.grad`` to scratch tensors, and return these; None for a parameter without."""
        kept: list[Tensor | None] = [
            None if p.grad is None else t for p, t in zip(self.params, self.scratch(name), strict=True)
        ]
        pairs = [(t, p.grad) for p, t in zip(self.params, kept, strict=True) if t is not None and p.grad is not None]
        copy_([t for t, _ in pairs], [g for _, g in pairs])
        return kept

    def combine(self, factor: float | Tensor, others: Sequence[Tensor | None], other_factor: float | Tensor) -> None:
        """``.grad`` ← factor · ``.grad`` + other_factor · others. A parameter with neither stays without gradient.

        Args:
            factor: a number, or a 0-dim tensor.
            others: one tensor for each parameter, or None for zero. They may be written to.
            other_factor: a number, or a 0-dim tensor.

        """
        scale_([p.grad for p in self.params if p.grad is not None], factor)
        scale_([t for t in others if t is not None], other_factor)
        both = [(p.grad, t) for p, t in zip(self.params, others, strict=True) if p.grad is not None and t is not None]
        add_([g for g, _ in both], [t for _, t in both])
        for p, t in zip(self.params, others, strict=True):
            if p.grad is None and t is not None:
                p.grad = t.clone()

    def scale_gradients(self, factor: float | Tensor) -> None:
        """``.grad`` ← factor · ``.grad``."""
        scale_([p.grad for p in self.params if p.grad is not None], factor)

    def swap_gradients(self, others: Sequence[Tensor | None]) -> list[Tensor | None]:
        """``.grad`` ← others; return what ``.grad`` was, less the others. None stands for zero."""
        found: list[Tensor | None] = []
        for p, other in zip(self.params, others, strict=True):
            g = p.grad
            if other is None:
                found.append(None if g is None else g.clone())
                if g is not None:
                    g.zero_()
            elif g is None:
                found.append(-other)
                p.grad = other.clone()
            else:
                found.append(g - other)
                g.copy_(other)
        return found

    def check_gradient(self) -> None:
        """Unscale and check gradients that the caller has computed before the step."""
        self._evaluator.check()

    def descend(self, at: list[Tensor] | None = None, to: list[Tensor] | None = None) -> None:
        """Let the base optimizer step with the gradients in ``.grad``.

        Args:
            at: weights to step at. Default: the parameters as they are.
            to: where the new weights go, while the parameters return to what they were. Default: the parameters.

        """
        own = [p.grad for p in self.params] if self._local else []
        if self._local:
            self._average()
        aside = clones(self.params) if to is not None else []
        if at is not None:
            copy_(self.params, at)
        self._base_step()
        if to is not None:
            copy_(to, self.params)
            copy_(self.params, aside)
        if self._local:
            for p, gradient in zip(self.params, own, strict=True):
                p.grad = gradient

    def _average(self) -> None:
        """Replace each rank's own gradients by their mean. One that is missing on some ranks counts as zero."""
        held = [p for p in self.params if p.grad is not None]
        if self._model.find_unused_parameters:
            present = torch.tensor([float(p.grad is not None) for p in self.params], device=self.params[0].device)
            [share] = averages([present], self._model)
            held = [p for p, some in zip(self.params, share.tolist(), strict=True) if some]
        gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in held]
        for p, mean in zip(held, averages(gradients, self._model), strict=True):
            p.grad = mean

    @property
    def evaluated(self) -> bool:
        """Return whether a gradient of the step is known."""
        return self._evaluator.number > 0

    def by_group(self, tensors: list[T]) -> Iterator[tuple[Group, list[Tensor], list[T]]]:
        """Yield each group, its parameters, and their part of a list that has one tensor for each parameter."""
        start = 0
        for group, params in self.groups:
            yield group, params, tensors[start : start + len(params)]
            start += len(params)

    def restore(self) -> None:
        """Put the parameters back to where the step began, by copy."""
        copy_(self.params, self.start)

    def commit(self) -> None:
        """Let the step stand: a failure from now on does not undo it."""
        self._rollback.committed = True

    def scratch(self, name: str) -> list[Tensor]:
        """Return tensors to write to, one for each parameter, kept from step to step under a name."""
        return self.buffers.scratch(name, self.params)

    def saved(self, name: str) -> list[Tensor]:
        """Return tensors of the optimizer's state, one for each parameter, zero at first. Checkpoints hold them."""
        return self.buffers.saved(name, self.params)
