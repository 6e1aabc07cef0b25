"""The k ascents that SAM, Multistep-SAM and Lookbehind share (algorithm 1, lines 5 to 8). Here ρ becomes ε."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel
from torch.optim import Optimizer
from typing_extensions import Unpack

from lookbehind._checks import choice, count, nonnegative, shown
from lookbehind._distributed import full_tensor, is_dtensor
from lookbehind._tensors import add_unit_, as_real, wide
from lookbehind.optim._evaluation import Closure
from lookbehind.optim._step import Group, Step
from lookbehind.optim._wrapper import OptimizerWrapper, WrapperOptions, steps_by_closure
from lookbehind.optim.perturbation import Perturbation, PerturbationName, RuleState, perturbation_of


class InnerStep(NamedTuple):
    """One of the k inner steps: the closure of its minibatch, and which gradients it takes."""

    number: int  # i = 1 … k
    closure: Closure
    needs_gradient: bool  # whether ∇L(φ'ᵢ₋₁) on this minibatch is still to be taken
    gradient_climbs_too: bool  # whether ∇L(φ'ᵢ) serves the next ascent as well


@dataclass(frozen=True)
class Ascent:
    """k ascents by a rule.

    Args:
        perturbation: the rule that gives ε.
        k: how often it is applied in a step.
        rho_key: the key of ρ in the parameter groups.
        sync: whether all ranks climb by the averaged gradient. Without, each climbs by its own.

    """

    perturbation: Perturbation
    k: int
    rho_key: str
    sync: bool = True

    @property
    def needs_gradient(self) -> bool:
        """Whether the rule climbs by the gradient at the present weights."""
        return getattr(self.perturbation, "needs_gradient", True)

    @property
    def keeps_state(self) -> bool:
        """Whether the rule has buffers. One that does not say so may have."""
        return getattr(self.perturbation, "keeps_state", True)

    def inner_steps(self, closures: Sequence[Closure]) -> Iterator[InnerStep]:
        """Yield the k inner steps.

        With one closure, ∇L(φ'ᵢ) serves the descent from it and the next ascent: k + 1 gradients. With one closure for
        each inner step the minibatch switches, so both gradients are taken: 2k.
        """
        switching = len(closures) > 1
        for i in range(1, self.k + 1):
            yield InnerStep(
                number=i,
                closure=closures[i - 1 if switching else 0],
                needs_gradient=self.needs_gradient and (i == 1 or switching),
                gradient_climbs_too=self.needs_gradient and i < self.k and not switching,
            )

    def climb(self, step: Step, inner: InnerStep, *, sync: bool = True) -> None:
        """Leave φ'ᵢ in the model and ∇L(φ'ᵢ) in ``.grad``.

        Args:
            step: the step in progress.
            inner: the inner step.
            sync: whether the gradient is averaged over ranks if no further ascent follows it.

        """
        if inner.needs_gradient:
            step.gradient(inner.closure, sync=self.sync)  # line 6: ∇L(φ'ᵢ₋₁)
        self.ascend(step)  # line 7
        step.gradient(inner.closure, sync=self.sync or (sync and not inner.gradient_climbs_too))  # line 8: ∇L(φ'ᵢ)

    def ascend(self, step: Step) -> None:
        """φ' ← φ' + ε with ε = ρ d / ℓ, for all parameters that have a gradient."""
        every = not self.needs_gradient
        # A shard without gradient counts as zero: all ranks must add up the same numbers.
        parts = [(g, [p for p in params if p.grad is not None or every or is_dtensor(p)]) for g, params in step.groups]
        seen = [p for _, part in parts for p in part]
        if not seen:
            return
        weights = as_real(seen)
        gradients = [] if every else as_real([g for group, part in parts for g in _gradients(group, part)])
        state = RuleState(lambda name: as_real(self._state(step, name, seen)))
        direction, length = _checked(self.perturbation(weights, gradients, state), weights, self.perturbation)
        start = 0
        for group, part in parts:
            mine = [j for j, p in enumerate(part, start) if p.grad is not None or every]
            lengths = length if isinstance(length, Tensor) else [length[j] for j in mine]
            add_unit_([weights[j] for j in mine], [direction[j] for j in mine], lengths, group[self.rho_key])
            start += len(part)

    def _state(self, step: Step, name: str, params: list[Tensor]) -> list[Tensor]:
        if not self.sync:
            raise ValueError(
                f"perturbation {shown(self.perturbation)} keeps state, which would differ between ranks that climb by "
                "their own gradients; leave sync_ascent at True"
            )
        return step.buffers.saved(name, params)


class AscentOptions(WrapperOptions, total=False):
    """The options of all methods that climb.

    Args:
        model: if given, its BatchNorm running statistics follow the first evaluation of a step only, which for most
            methods is the one at the unperturbed weights. Default: every evaluation.
        nonfinite: what an infinite or NaN gradient does: "propagate" (as in torch's optimizers, the default), "skip"
            the step and count it in ``skipped_steps``, or "raise" ``NonfiniteGradientError``. The latter two wait for
            the device once a gradient. "skip" keeps a copy of the base optimizer's state, if the base moves before all
            gradients of a step are known.
        rollback: what is put back when a step fails: "weights" (the default) or "full", with the base optimizer's
            state, counters and torch's random state, at the price of a copy of that state each step.
        same_dropout: whether all evaluations of a step draw the same dropout masks. Default False, as in the paper's
            code.
        sync_ascent: whether ranks of ``DistributedDataParallel`` climb by the averaged gradient (the default). With
            False each climbs by the gradient of its own part of the minibatch (m-sharpness with m the part's size), and
            fewer bytes are sent. False needs ``model`` to be the ``DistributedDataParallel`` module.

    """

    model: torch.nn.Module | None
    same_dropout: bool
    sync_ascent: bool


class AscentWrapper(OptimizerWrapper):
    """An optimizer that takes gradients at perturbed weights. ``rho`` is in the parameter groups.

    Args:
        base: the optimizer that descends.
        entries: numbers that are kept in the parameter groups, ``rho`` among them.
        perturbation: "sam", "asam" or a rule object.
        k: ascents in a step.
        **options: see ``AscentOptions``.

    """

    takes = frozenset(AscentOptions.__annotations__)

    def __init__(
        self,
        base: Optimizer,
        entries: Mapping[str, float],
        perturbation: PerturbationName | Perturbation,
        k: int,
        **options: Unpack[AscentOptions],
    ) -> None:
        if isinstance(base, Optimizer) and steps_by_closure(base):
            raise ValueError(
                f"base is {type(base).__name__}, whose own step needs a closure; {type(self).__name__} needs a base "
                "that steps from a gradient, such as SGD or AdamW"
            )
        super().__init__(base, entries, **options)
        sync = choice("sync_ascent", options.get("sync_ascent", True), (True, False))
        if not sync:
            _require_ddp(self.model)
        self.ascent = Ascent(perturbation_of(perturbation), count("k", k), self.group_key("rho"), sync)
        self._wrap()

    @property
    def k(self) -> int:
        """Ascents in a step."""
        return self.ascent.k

    @property
    def perturbation(self) -> Perturbation:
        """The rule that gives ε."""
        return self.ascent.perturbation

    def _state_moves_first(self) -> bool:
        return super()._state_moves_first() or self.ascent.keeps_state

    def _check(self, name: str, value: Any) -> Any:
        return nonnegative("rho", value) if name == "rho" else super()._check(name, value)

    def _details(self) -> dict[str, object]:
        return {"perturbation": self.perturbation}


def _gradients(group: Group, params: list[Tensor]) -> list[Tensor]:
    """Return the gradients of what is minimised."""
    gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in params]
    return [-g for g in gradients] if group.get("maximize") else gradients


def _require_ddp(model: Any) -> None:
    if not isinstance(model, DistributedDataParallel):
        raise ValueError(
            "sync_ascent is False, which needs model=DistributedDataParallel(...); model is "
            f"{type(model).__name__ if model is not None else None}"
        )
    if model.static_graph:
        raise ValueError(
            "sync_ascent is False, but model was made with static_graph=True, which allows no evaluation without "
            "averaging; make it with static_graph=False"
        )


def _checked(found: Any, weights: list[Tensor], rule: Perturbation) -> tuple[list[Tensor], Tensor | list[Tensor]]:
    """Return what a rule returned, or raise if it is no direction and length."""
    if not (isinstance(found, tuple) and len(found) == 2 and len(found[0]) == len(weights)):
        raise TypeError(
            f"perturbation {shown(rule)} returned {shown(found)}; a pair (direction, length) is needed, with one "
            f"tensor for each of the {len(weights)} weights in the direction"
        )
    direction, length = found
    if isinstance(length, (list, tuple)):
        return list(direction), [_number(one, weights[0]) for one in length]
    return list(direction), _number(length, weights[0])


def _number(length: Any, weight: Tensor) -> Tensor:
    if isinstance(length, Tensor):
        return full_tensor(length)
    return torch.full((), float(length), dtype=wide(weight.dtype), device=weight.device)
