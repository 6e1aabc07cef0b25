"""The mean loss over given data as a function of a model's weights, and its derivatives."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import reduce
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.data import DataLoader, RandomSampler

from lookbehind._checks import choice, repeatable
from lookbehind._minibatch import Loss, call, loss_of, pairs, weight_of
from lookbehind._modes import clear_weight_caches
from lookbehind._random import random_state, set_random_state
from lookbehind._tensors import add_, wide


class Objective:
    """L(φ), the mean over all targets of all minibatches (``weight_of``): it does not depend on how they are cut.

    Each evaluation is one pass over the minibatches at the weights that the model holds, to be called within
    ``untouched(model)``. Every pass starts from the same random state and leaves it so: with new dropout masks, or
    minibatches shuffled anew, there would be no function to differentiate.
    """

    def __init__(self, model: nn.Module, loss: Loss | None, minibatches: Iterable[Any], mode: str) -> None:
        choice("mode", mode, ("eval", "train"))
        repeatable("minibatches", minibatches)
        require_same_passes(minibatches)
        self.weights: list[Tensor] = [p for p in model.parameters() if p.requires_grad]
        if not self.weights:
            raise ValueError("the model has no parameter that requires a gradient, so its loss is a constant")
        self.size = sum(p.numel() for p in self.weights)
        self.dtype = reduce(torch.promote_types, (wide(p.dtype) for p in self.weights))
        self.minibatches = 0  # in the last pass
        self.gradients = 0  # evaluated so far, each on one minibatch
        self.evaluations = 0  # losses evaluated without a gradient so far, likewise
        self._model, self._loss, self._data, self._train = model, loss, minibatches, mode == "train"
        self._random = random_state(p.device for p in self.weights)

    def value(self) -> float:
        """Return L(φ)."""
        with torch.no_grad():
            zero = torch.zeros((), dtype=torch.float64, device="cpu")
            (mean,) = self._mean([zero], lambda loss: [loss.cpu().double()])
        self.evaluations += self.minibatches
        return mean.item()

    def gradient(self) -> list[Tensor]:
        """Return ∇L(φ)."""
        mean = self._mean(self._zeros(), self._gradient)
        self.gradients += self.minibatches
        return mean

    def hessian_times(self, vector: Tensor) -> Tensor:
        """Return ∇²L(φ) v for a flat vector, as the gradient of ⟨∇L(φ), v⟩."""
        parts = vector.split([p.numel() for p in self.weights])
        v = [part.view(p.shape).to(p.device, p.dtype) for part, p in zip(parts, self.weights, strict=True)]

        def product(loss: Tensor) -> Sequence[Tensor]:
            first = self._gradient(loss, create_graph=True)
            slope = torch.stack([(g * d).sum().to(loss.device) for g, d in zip(first, v, strict=True)]).sum()
            # Where the loss is linear in the weights, the slope does not depend on them.
            return self._gradient(slope) if slope.requires_grad else self._zeros()

        with sdpa_kernel(SDPBackend.MATH):  # the other kinds of attention have no second derivative
            mean = self._mean(self._zeros(), product)
        self.gradients += 2 * self.minibatches
        flat = torch.cat([t.reshape(-1).to("cpu", self.dtype) for t in mean])
        if not flat.isfinite().all():
            narrow = sorted({str(p.dtype) for p in self.weights if p.dtype != wide(p.dtype)})
            raise ValueError(
                f"the loss has no finite second derivatives in {narrow[0]}; measure model.float()"
                if narrow
                else "the loss has no finite second derivatives at these weights; did the training diverge?"
            )
        return flat

    def _gradient(self, loss: Tensor, create_graph: bool = False) -> Sequence[Tensor]:
        return torch.autograd.grad(
            loss, self.weights, create_graph=create_graph, allow_unused=True, materialize_grads=True
        )

    def _zeros(self) -> list[Tensor]:
        return [torch.zeros_like(p, dtype=wide(p.dtype)) for p in self.weights]

    def _mean(self, total: list[Tensor], of: Callable[[Tensor], Sequence[Tensor]]) -> list[Tensor]:
        """Return the mean of something of the loss, each minibatch weighted by its number of targets."""
        self._model.train(self._train)
        whole, self.minibatches = 0.0, 0
        clear_weight_caches()
        with self._same_random_numbers():
            for inputs, targets in pairs(self._data):
                weight = weight_of(self._model, self._loss, inputs, targets)
                if weight:
                    part = of(loss_of(self._model, self._loss, call(self._model, inputs), targets))
                    add_(total, [t.detach() for t in part], weight)
                    whole += weight
                    self.minibatches += 1
        if not whole:
            raise ValueError("there is no minibatch to measure on, or none has a target that counts")
        return list(torch._foreach_div(total, whole))

    @contextmanager
    def _same_random_numbers(self) -> Iterator[None]:
        try:
            yield
        finally:
            set_random_state(self._random)


def require_same_passes(minibatches: Iterable[Any]) -> None:
    """Refuse a loader that goes through other examples at each pass: the objective would change meanwhile."""
    if isinstance(minibatches, DataLoader) and isinstance(minibatches.sampler, RandomSampler):
        sampler = minibatches.sampler
        if sampler.generator is not None and (minibatches.drop_last or sampler.num_samples != len(minibatches.dataset)):  # type: ignore[arg-type]
            raise ValueError(
                "minibatches is a loader that shuffles by a generator of its own and leaves examples out, so each pass "
                "has others; pass shuffle=False, drop_last=False, or list(loader)"
            )
