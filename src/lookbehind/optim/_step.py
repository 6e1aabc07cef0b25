"""One step in progress: everything that a method may touch."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from lookbehind._distributed import averages
from lookbehind._tensors import clones, copy_
from lookbehind.optim._buffers import Buffers
from lookbehind.optim._evaluation import Closure, GradientEvaluator
from lookbehind.optim._rollback import Rollback

Group = dict[str, Any]


class Step:
    """One step in progress.

    Args:
        groups: the parameter groups, each with its parameters that take part in the step.
        buffers: the tensors that the optimizer keeps for its parameters.
        evaluator: what evaluates gradients.
        rollback: what a failed step puts back.
        start: copies of the parameters at the start of the step. Leave them as they are.
        base_step: lets the base optimizer step.
        model: the ``DistributedDataParallel`` module whose ranks average gradients of their own, if any.

    """

    def __init__(
        self,
        groups: Sequence[tuple[Group, list[Tensor]]],
        *,
        buffers: Buffers,
        evaluator: GradientEvaluator,
        rollback: Rollback,
        start: list[Tensor],
        base_step: Callable[[], Any],
        model: Any,
    ) -> None:
        self.groups = groups
        self.params = [p for _, params in groups for p in params]
        self.start = start
        self.buffers = buffers
        self._evaluator, self._rollback = evaluator, rollback
        self._base_step, self._model = base_step, model
        self._local = False  # whether .grad holds this rank's own gradients

    def gradient(self, closure: Closure, *, sync: bool = True) -> Any:
        """Leave the gradient at the weights that the model holds in ``.grad``; return the loss.

        Args:
            closure: an ordinary closure.
            sync: whether the ranks of a ``DistributedDataParallel`` model average the gradient.

        """
        self._local = not sync
        return self._evaluator.gradient(closure, sync=sync)

    def check_gradient(self) -> None:
        """Unscale and check gradients that the caller has computed before the step."""
        self._evaluator.check()

    def descend(self, at: list[Tensor] | None = None, to: list[Tensor] | None = None) -> None:
        """Let the base optimizer step with the gradients in ``.grad``.

        Args:
            at: weights to step at. Default: the parameters as they are.
            to: where the new weights go, while the parameters return to what they were. Default: the parameters.

        """
        own = [p.grad for p in self.params]
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

    def by_group(self, tensors: list[Tensor]) -> Iterator[tuple[Group, list[Tensor], list[Tensor]]]:
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
