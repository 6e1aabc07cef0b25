"""One gradient evaluation: closure, random state, running statistics, loss scale, finiteness, ranks."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Collection, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.amp.grad_scaler import OptState
from torch.nn.modules.batchnorm import _NormBase
from torch.utils._pytree import tree_map_only

from lookbehind._distributed import any_dtensor, any_rank, local_tensors, placed_like
from lookbehind._modes import clear_weight_caches
from lookbehind._random import RandomState, random_state, set_random_state
from lookbehind._tensors import clones, copy_
from lookbehind._warning import warn

if TYPE_CHECKING:
    from torch.amp.grad_scaler import GradScaler
    from torch.optim import Optimizer

Closure = Callable[[], Any]


class NonfiniteGradientError(FloatingPointError):
    """A gradient had an infinite or NaN entry while ``nonfinite`` was "skip" or "raise"."""


class GradientEvaluator:
    """The gradient evaluations of one step.

    Args:
        params: the parameters whose gradients are wanted.
        name: what messages call the optimizer.
        name_of: what messages call a parameter.
        model: the module whose running statistics follow the first evaluation of a step only; or None.
        nonfinite: "propagate", "skip" or "raise".
        same_dropout: whether all evaluations draw the same random numbers.
        scaler: what scales the losses, if anything does.
        optimizers: returns the optimizer and those inside it. A closure may have called ``scaler.unscale_`` with any.

    """

    scaler: GradScaler | None = None
    optimizers: Sequence[Optimizer] = ()
    number = 0
    places: Collection[int] = ()  # where in memory parameters are
    loss: Any = None  # of the first evaluation
    overflow: NonfiniteGradientError | None = None  # raised by this object
    _random: RandomState | None = None
    _ready = False  # the first gradient was evaluated ahead
    _warned = False

    def __init__(
        self,
        params: list[Tensor],
        *,
        name: str,
        name_of: Callable[[Tensor], str],
        model: torch.nn.Module | None,
        nonfinite: str,
        same_dropout: bool,
        scaler: GradScaler | None,
        optimizers: Callable[[], Sequence[Optimizer]],
    ) -> None:
        self.params = params
        self.name, self.name_of = name, name_of
        self.model, self.nonfinite, self.same_dropout = model, nonfinite, same_dropout
        if scaler is not None and scaler.is_enabled():
            self.scaler, self.optimizers = scaler, optimizers()
            self._require_update()
        self.statistics = running_statistics(model)
        self._untouched: list[tuple[Tensor, Callable[[], Tensor | None], int]] = []  # with gradients of before the step
        self._renewed: list[Tensor] = []  # parameters whose gradient an evaluation put into another tensor
        self._added_to: list[Tensor] = []  # those where it wrote to the tensor that was there
        self._lent: list[tuple[Tensor, Tensor]] = []  # parameters, and gradients in whose place there are copies

    def ahead(self, closure: Closure) -> None:
        """Evaluate the first gradient before the step needs it: lazy modules take their shapes from it."""
        if self._ready:
            return
        self._evaluate(closure, sync=True)
        self.statistics = running_statistics(self.model)
        self._ready = True

    def found(self, params: list[Tensor]) -> None:
        """Take the parameters that there are now: the first evaluation has given lazy modules theirs."""
        known = set(self.params)
        self._renewed += [p for p in params if p not in known]
        self.params = params

    def gradient(self, closure: Closure, *, sync: bool = True) -> Any:
        """Leave the gradient at the weights that the model holds in ``.grad``; return the loss.

        Args:
            closure: zeroes the gradients, runs forward and backward, returns the loss.
            sync: whether ``DistributedDataParallel`` averages the gradient. Without, it is the rank's own.

        Raises:
            TypeError: if a gradient is sparse.
            NonfiniteGradientError: if one is not finite, unless such gradients are to propagate.

        """
        loss = self.loss if self._ready else self._evaluate(closure, sync=sync)
        self._ready = False
        if not self.check(sync=sync) and self.params and not self._warned:
            self._warned = True
            warn(
                f"no parameter has a gradient after the closure, so {self.name} moves nothing; does the closure call "
                "loss.backward(), and has the optimizer this model's parameters?"
            )
        self.number += 1
        return loss

    def _evaluate(self, closure: Closure, *, sync: bool) -> Any:
        kept: list[Tensor] = []
        first = self.number == 0
        if first:
            self._untouched = _writes(self.params)
        else:
            self._forget_gradients()
            kept = clones(self.statistics)
        if self.same_dropout:
            self._draw_alike()
        self.forget_unscaled()
        clear_weight_caches()
        try:
            torch._C._set_grad_enabled(True)  # steps run without; `enable_grad` costs as much as a small layer
            loss = closure() if sync else self._alone(closure)
        finally:
            torch._C._set_grad_enabled(False)
            if kept:
                copy_(self.statistics, kept)
        if self._untouched:  # a layer may have its first gradient in a later evaluation
            self._untouched = [one for one in self._untouched if not self._touched(*one)]
        if first:
            self.loss = _copied(loss)  # the closure may write to it again
        return loss

    def _touched(self, p: Tensor, was: Callable[[], Tensor | None], version: int) -> bool:
        """Note how an evaluation has given a parameter its first gradient of the step; return whether it has."""
        if (gradient := p.grad) is not was():
            self._renewed.append(p)
        elif gradient is not None and gradient._version != version:
            self._added_to.append(p)
        else:
            return False
        return True

    def _alone(self, closure: Closure) -> Any:
        with self.model.no_sync():  # type: ignore[union-attr, operator]
            return closure()

    def _forget_gradients(self) -> None:
        """Keep an earlier gradient of this step out of the next one, also if the closure does not zero it.

        A closure that found a tensor and added to it finds that tensor again, with zeros in it. One that put a new
        tensor there, by zeroing or by adding, finds none, as does one that found none.
        """
        self.give_back()
        for p in self._added_to:
            if p.grad is not None:
                if p.grad.requires_grad:
                    p.grad = p.grad.detach()
                p.grad.zero_()
        for p in self._renewed:
            p.grad = None

    def give_back(self) -> None:
        """Put the tensors that a closure has put into ``.grad`` back there: it may write to them again."""
        while self._lent:
            p, gradient = self._lent.pop()
            p.grad = gradient

    def check(self, *, sync: bool = True) -> bool:
        """Unscale the gradients in ``.grad``, and see to those that are sparse, unreduced or not finite.

        Returns:
            Whether there is any gradient.

        """
        held, gradients = [], []
        for p in self.params:
            if (gradient := p.grad) is not None:
                if gradient.layout is not torch.strided:
                    raise TypeError(
                        f"the gradient of {self.name_of(p)} is {gradient.layout}; {self.name} needs dense gradients: "
                        "build the layer with sparse=False, or give its parameters to another optimizer"
                    )
                held.append(p)
                gradients.append(gradient)
        if any_dtensor(held):
            gradients = [placed_like(gradient, p) for p, gradient in zip(held, gradients, strict=True)]
            for p, gradient in zip(held, gradients, strict=True):
                p.grad = gradient
        self._lent += _give_each_its_own(held, gradients, self.places)
        if self.scaler is not None or self.nonfinite != "propagate":
            self._check_finite(held, sync)
        return bool(held)

    def _check_finite(self, held: list[Tensor], sync: bool) -> None:
        shared = not sync or any_dtensor(self.params)  # else all ranks have the same gradients
        if not (held or shared):
            return
        gradients = [p.grad for p in held if p.grad is not None]
        finite = [g.isfinite().all() for g in local_tensors(gradients)]
        found = self._unscale(held)
        device = finite[0].device if finite else local_tensors(self.params)[0].device
        bad = torch.zeros((), dtype=torch.bool, device=device)
        for flag in [~f for f in finite] + [f > 0 for f in found]:
            bad |= flag.to(device)
        if shared:
            bad = any_rank(bad, self.params, None if sync else self.model)
        for number in found:  # if another rank has met an overflow, this one's scaler must know, or their scales part
            number.masked_fill_(bad.to(number.device), 1.0)
        if bad:
            names = ", ".join(self.name_of(p) for p, f in zip(held, finite, strict=True) if not f)
            self.overflow = NonfiniteGradientError(
                f"the gradient is not finite in {names or 'another process'}; the weights are those of before the step"
            )
            raise self.overflow

    def _unscale(self, held: list[Tensor]) -> list[Tensor]:
        """Unscale the gradients, unless the closure has; return what the scaler has noted of overflows.

        ``GradScaler`` unscales an optimizer once between two updates, and a step has several gradients. So its note of
        the optimizer is removed before each evaluation (``forget_unscaled``). ``update`` reads the last one.
        """
        if self.scaler is None or not held:
            return []
        notes = self._notes()
        done = [note for o in self.optimizers if (note := notes.get(id(o))) and note["found_inf_per_device"]]
        if not done:
            self.scaler.unscale_(self.optimizers[0])
            done = [notes[id(self.optimizers[0])]]
        return [number for note in done for number in note["found_inf_per_device"].values()]

    def forget_unscaled(self) -> None:
        """Let the scaler forget that it has unscaled an earlier gradient of the optimizer."""
        for optimizer in self.optimizers:
            self._notes().pop(id(optimizer), None)

    def _require_update(self) -> None:
        """Raise if the scaler was not updated since the last step: its scale would not fit the gradients' notes."""
        stages = [self._notes()[id(o)]["stage"] for o in self.optimizers if id(o) in self._notes()]
        if OptState.STEPPED in stages:
            raise RuntimeError(
                f"{self.name}.step was called twice with one scale; call scaler.update() after each step"
            )

    def finish(self) -> None:
        """Tell the scaler that the step is done, and leave no cache of other weights behind."""
        for optimizer in self.optimizers:
            if id(optimizer) in self._notes():
                self._notes()[id(optimizer)]["stage"] = OptState.STEPPED
        self.give_back()
        clear_weight_caches()

    def _notes(self) -> dict[int, dict[str, Any]]:
        notes: dict[int, dict[str, Any]] = self.scaler._per_optimizer_states  # type: ignore[union-attr]
        return notes

    def _draw_alike(self) -> None:
        if self._random is None:
            self._random = random_state(p.device for p in self.params)
        else:
            set_random_state(self._random)


def _give_each_its_own(
    held: list[Tensor], gradients: list[Tensor], places: Collection[int]
) -> list[tuple[Tensor, Tensor]]:
    """Copy gradients that share their memory: ``torch.autograd.grad`` of a + b returns one tensor for both.

    A gradient is scaled and added to in place, which would count twice. So would one that ``expand`` has made. One in
    the memory of its parameter, as ½‖w‖² can have it, would change with the weights.

    Args:
        held: the parameters.
        gradients: their gradients.
        places: where in memory parameters are.

    Returns:
        The parameters whose gradients are copies now, and what was there.

    """
    local = local_tensors(gradients)
    found = set(map(Tensor.data_ptr, local))
    if len(found) == len(local) and found.isdisjoint(places) and all(map(Tensor.is_contiguous, local)):
        return []
    seen = set(places)
    shared = []
    for p, gradient, part in zip(held, gradients, local, strict=True):
        place = part.data_ptr() if part.numel() else 0
        if place in seen or (not part.is_contiguous() and 0 in part.stride()):
            shared.append((p, gradient))
        elif place:
            seen.add(place)
    for p, gradient in shared:
        p.grad = gradient.clone(memory_format=torch.contiguous_format)
    return shared


def _writes(params: list[Tensor]) -> list[tuple[Tensor, Callable[[], Tensor | None], int]]:
    """Return which tensors gradients are in, without keeping them alive, and how often each was written to."""
    return [(p, _nothing, 0) if (g := p.grad) is None else (p, weakref.ref(g), g._version) for p in params]


def _nothing() -> None:
    return None


def _copied(loss: Any) -> Any:
    if isinstance(loss, Tensor):
        return loss.clone()  # steps run without gradients, so nothing hangs on the copy
    return tree_map_only(Tensor, lambda t: t.detach().clone(), loss)


def running_statistics(model: torch.nn.Module | None) -> list[Tensor]:
    """Return the running statistics of a model's normalisation layers."""
    modules = model.modules() if model is not None else ()
    return [buffer for module in modules if isinstance(module, _NormBase) for buffer in module.buffers(False)]
