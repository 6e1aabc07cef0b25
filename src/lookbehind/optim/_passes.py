"""The gradient evaluations of one step: closure, random state, running statistics, loss scale, finiteness."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from lookbehind._distributed import any_rank, full_tensor
from lookbehind._random import RandomState, random_state, set_random_state
from lookbehind._tensors import copy_

if TYPE_CHECKING:
    from torch.amp.grad_scaler import GradScaler
    from torch.optim import Optimizer

    from lookbehind.optim._wrapper import Wrapper

Closure = Callable[[], Any]


class NonfiniteGradientError(FloatingPointError):
    """A gradient had an infinite or NaN entry while ``nonfinite`` was "skip" or "raise"."""


class Passes:
    """The passes of one step.

    Args:
        scaler: what scales the losses, if anything does.

    """

    def __init__(self, scaler: GradScaler | None) -> None:
        self.scaler = scaler if scaler is not None and scaler.is_enabled() else None
        self.number = 0
        self.loss: Any = None  # of the first pass, at the unperturbed weights
        self.random: RandomState | None = None

    def gradient(self, optimizer: Wrapper, closure: Closure, *, perturbed: bool, local: bool = False) -> Any:
        """Leave the gradient at the weights that the model holds in ``.grad``; return the loss.

        Args:
            optimizer: the optimizer whose weights the model holds.
            closure: zeroes the gradients, runs forward and backward.
            perturbed: whether the weights are perturbed, so that running statistics must not follow them.
            local: whether processes keep their own gradients.

        """
        self._draw_alike(optimizer)
        statistics = optimizer._statistics() if perturbed else []
        kept = [buffer.clone() for buffer in statistics]
        apart: AbstractContextManager[None] = optimizer.model.no_sync() if local else nullcontext()  # type: ignore[union-attr, operator]
        try:
            with torch.enable_grad(), apart:
                loss = closure()
        finally:
            copy_(statistics, kept)
        if self.number == 0:
            self.loss = loss.detach() if isinstance(loss, Tensor) else loss
        if not self.check(optimizer, local) and self.number == 0 and optimizer._weights:
            warnings.warn(
                f"no parameter has a gradient after the closure, so {type(optimizer).__name__} moves nothing; does the "
                "closure call loss.backward()?",
                stacklevel=2,
            )
        self.number += 1
        return loss

    def check(self, optimizer: Wrapper, local: bool = False) -> bool:
        """Unscale the gradients in ``.grad``, and see to those that are sparse or not finite.

        Returns:
            Whether there is any gradient.

        Raises:
            TypeError: if a gradient is sparse.
            NonfiniteGradientError: if one is not finite, unless such gradients are to propagate.

        """
        held = [p for p in optimizer._weights if p.grad is not None]
        for p in held:
            if p.grad.layout is not torch.strided:
                raise TypeError(
                    f"the gradient of {optimizer._name(p)} is {p.grad.layout}; {type(optimizer).__name__} needs dense "
                    "gradients: build the layer with sparse=False, or give its parameters to another optimizer"
                )
        if (self.scaler is None and optimizer.nonfinite == "propagate") or not held:
            return bool(held)
        finite = [full_tensor(p.grad.isfinite().all()) for p in held]
        bad = ~torch.stack([f.to(finite[0].device) for f in finite]).all()
        if local:
            bad = any_rank(bad, [], optimizer.model)
        if self.scaler is not None:
            self._unscale(optimizer._face(self.number), held, bad)
        if bad:
            names = ", ".join(optimizer._name(p) for p, f in zip(held, finite, strict=True) if not f)
            raise NonfiniteGradientError(
                f"the gradient is not finite in {names or 'another process'}; the weights are those of before the step"
            )
        return True

    def _unscale(self, face: Face, held: list[Tensor], bad: Tensor) -> None:
        # GradScaler unscales an optimizer once between two updates, so it is shown a new face for each pass. If another
        # process has met an overflow, this one must report it too, or their scales would part.
        assert self.scaler is not None
        for p in held[:1]:
            assert p.grad is not None
            p.grad.masked_fill_(bad.to(p.grad.device), float("inf"))
        self.scaler.unscale_(face)  # type: ignore[arg-type]

    def _draw_alike(self, optimizer: Wrapper) -> None:
        """With ``rng="shared"``, let every pass of the step draw the same dropout masks."""
        if getattr(optimizer, "rng", "fresh") == "shared":
            if self.random is None:
                self.random = random_state(p.device for p in optimizer._weights)
            else:
                set_random_state(self.random)


class Face:
    """What a ``GradScaler`` sees as an optimizer: parameters, and an identity of its own."""

    def __init__(self, base: Optimizer) -> None:
        self.base = base

    @property
    def param_groups(self) -> list[dict[str, Any]]:
        """The base optimizer's groups, which are the optimizer's."""
        return self.base.param_groups
