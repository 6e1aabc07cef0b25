"""The k ascents that SAM, Multistep-SAM and Lookbehind share (algorithm 1, lines 5 to 8). Here ρ becomes ε."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import compress
from types import MappingProxyType
from typing import Any, NamedTuple, TypeGuard

import torch
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel
from torch.optim import Optimizer
from typing_extensions import Unpack

from lookbehind._checks import choice, count, nonnegative, number, shown
from lookbehind._distributed import full_tensor, is_dtensor
from lookbehind._tensors import add_unit_, as_real, wide
from lookbehind.optim._evaluation import Closure
from lookbehind.optim._step import Group, Step
from lookbehind.optim._wrapper import OptimizerWrapper, WrapperOptions, brief, steps_by_closure
from lookbehind.optim.perturbation import Perturbation, PerturbationName, RuleState, perturbation_of
from lookbehind.optim.schedule import FollowsRate, LargeGradient, Schedule

# Why methods refuse sync_ascent=False.
CLEAN_GRADIENT = "the gradient of its ascent descends too, so the ranks must average it"
STATEFUL = "the average in its ascent would differ between ranks"

Directions = Sequence[Tensor | None]


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
        radius: how ρ follows the learning rate, or None.

    """

    perturbation: Perturbation
    k: int
    rho_key: str
    sync: bool = True
    radius: FollowsRate | None = None

    @cached_property
    def needs_gradient(self) -> bool:
        """Return whether the rule climbs by the gradient at the present weights."""
        return getattr(self.perturbation, "needs_gradient", True)

    @cached_property
    def keeps_state(self) -> bool:
        """Return whether the rule has buffers. One that does not say so may have."""
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
        """Leave ∇L(φ'ᵢ) in ``.grad``, and the next inner step's φ'ᵢ or φ'ᵢ₊₁ in the model.

        A gradient that serves the next ascent too climbs at once: a base optimizer or a hook may write to it.

        Args:
            step: the step in progress.
            inner: the inner step.
            sync: whether the gradient is averaged over ranks if no further ascent follows it.

        """
        if inner.needs_gradient:
            step.gradient(inner.closure, sync=self.sync)  # line 6: ∇L(φ'ᵢ₋₁)
        if inner.needs_gradient or not self.needs_gradient:
            self.ascend(step)  # line 7: φ'ᵢ
        step.gradient(inner.closure, sync=self.sync or (sync and not inner.gradient_climbs_too))  # line 8: ∇L(φ'ᵢ)
        if inner.gradient_climbs_too:
            self.ascend(step)  # lines 6 and 7 of the next inner step: φ'ᵢ₊₁

    def both_gradients(self, step: Step, closure: Closure) -> list[Tensor | None]:
        """Leave ∇L(φ + ε) in ``.grad`` and φ in the model; return ∇L(φ), None for a parameter without."""
        step.gradient(closure)
        plain = step.keep_gradients("plain")
        self.ascend(step)
        step.gradient(closure)
        step.restore()
        return plain

    def ascend(self, step: Step, along: Directions | None = None, *, opposite: bool = False) -> None:
        """φ' ← φ' + ε with ε = ρ d / ℓ.

        Args:
            step: the step in progress.
            along: what the rule takes for the gradient: a tensor for each parameter, or None where it does not move.
                Default: the gradient.
            opposite: climb by −ε.

        """
        every = not self.needs_gradient
        if along is None:
            along = step.gradients()
        # A shard without gradient counts as zero: all ranks must add up the same numbers.
        moved = [every or d is not None or is_dtensor(p) for p, d in zip(step.params, along, strict=True)]
        if not step.evaluated:  # then a frozen parameter's gradient is an old one
            moved = [m and p.requires_grad for m, p in zip(moved, step.params, strict=True)]
        params = list(compress(step.params, moved))
        if not params:
            return
        weights = as_real(params)
        given = () if every else zip(params, compress(along, moved), strict=True)
        gradients = as_real(torch.zeros_like(p) if d is None else d for p, d in given)
        state = RuleState(lambda name: as_real(self._state(step, name, params)))
        direction, length = _checked(self.perturbation(weights, gradients, state), weights, self.perturbation)
        start = 0
        for group, _, part in step.by_group(moved):
            mine = slice(start, start + sum(part))
            lengths = length[mine] if isinstance(length, list) else length
            rho = self._rho(step, group)
            add_unit_(weights[mine], direction[mine], lengths, -rho if opposite else rho)
            start = mine.stop

    def _rho(self, step: Step, group: Group) -> float:
        rho: float = group[self.rho_key]
        if self.radius is not None:
            rho = self.radius(rho, float(group["lr"]))
        return rho * step.radius_factor

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
        rollback: what is put back when a step fails: "weights" (the default) or "full". The latter adds the base
            optimizer's state, counters and torch's random state, at the price of a copy each step.
        same_dropout: whether all evaluations of a step draw the same dropout masks. Default False, as in the paper's
            code.
        sync_ascent: whether ranks of ``DistributedDataParallel`` climb by the averaged gradient (the default). With
            False each climbs by the gradient of its own part of the minibatch (m-sharpness with m the part's size), and
            fewer bytes are sent. False needs ``model`` to be the ``DistributedDataParallel`` module.
        when: which steps climb: ``Every``, ``Window``, ``Sometimes``, ``LargeGradient`` or an object like these. The
            others are the base optimizer's own, with its momentum kept. Default: all climb.
        radius: ``FollowsRate``, by which the radius follows the learning rate. Default: it does not.

    """

    model: torch.nn.Module | None
    same_dropout: bool
    sync_ascent: bool
    when: Schedule | None
    radius: FollowsRate | None


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
    refuses: Mapping[str, str] = MappingProxyType({})  # options that have no meaning with the method, and why
    counts_steps = False  # whether the method itself depends on the number of the step
    keeps: Sequence[str] = ()  # its tensors that checkpoints hold; until the first step they are as good as missing

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
        self.when, radius = options.get("when"), options.get("radius")
        counters: dict[str, float] = {"steps": 0} if self.counts_steps or self.when is not None else {}
        counters |= self.when.numbers if _is_schedule(self.when) else {}
        super().__init__(base, {**entries, **counters}, **options)
        sync = choice("sync_ascent", options.get("sync_ascent", True), (True, False))
        for option, given in {"when": self.when, "radius": radius, "sync_ascent": None if sync else False}.items():
            if given is not None and option in self.refuses:
                raise ValueError(f"{type(self).__name__} takes no {option}: {self.refuses[option]}")
        if not sync:
            _require_ddp(self.model)
        if radius is not None and not isinstance(radius, FollowsRate):
            raise TypeError(f"radius is {shown(radius)}; FollowsRate(lr_max=...) or None is needed")
        if isinstance(self.when, LargeGradient) and (why := self._undecided(sync)):
            raise ValueError(f"when is LargeGradient, which has no meaning with this {type(self).__name__}: {why}")
        self.ascent = Ascent(perturbation_of(perturbation), count("k", k), self.group_key("rho"), sync, radius)
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

    def _take(self, step: Step, closures: Sequence[Closure]) -> None:
        counter = self._keys.get("steps")
        t = step.number = self._entry(counter, 0) if counter else 0
        for name in self.keeps if counter and t == 0 else ():
            self._buffers.drop(name, step.params)  # they were made for a checkpoint
        numbers: dict[str, float] = {}
        if self.when is not None:
            numbers = {name: self._entry(self._keys[name], first) for name, first in self.when.numbers.items()}
            step.radius_factor = self.when(t, lambda: _first_norm(step, closures[0]), numbers)
        if self.when is None or step.radius_factor:
            self.update(step, closures)
        else:
            self.plain(step, closures)
        for name, value in numbers.items():
            self._set(self._keys[name], value)
        if counter:
            self._set(counter, t + 1)

    def _undecided(self, sync: bool) -> str | None:
        """Return why the first gradient of a step cannot decide whether it climbs, or None."""
        if not self.returns_clean_loss:
            return "the first gradient of a step is at perturbed weights"
        return self.refuses.get("LargeGradient") if sync else "each rank would decide by itself"

    def _several(self, closure: Any, number: int | None) -> Sequence[Closure]:
        """Return the closures of a step that takes one for each of several minibatches; a number of None is any."""
        given = closure if isinstance(closure, (list, tuple)) else [closure]
        closures = [c for one in given for c in super(AscentWrapper, self)._closures(one)]
        if not closures or number not in (len(closures), None):
            raise ValueError(
                f"step got {len(closures)} closures; {number or 'at least 1'} are needed, one for each minibatch"
            )
        return closures

    def _probe(self) -> None:
        super()._probe()
        for name in self.keeps:
            self._buffers.saved(name, [p for group in self.param_groups for p in group["params"] if p.requires_grad])

    def plain(self, step: Step, closures: Sequence[Closure]) -> None:
        """Do a step that does not climb: the base optimizer's own.

        A method that remembers gradients, or takes several closures, fills this in.
        """
        if len(closures) > 1:
            raise ValueError(f"{type(self).__name__} with when= takes one closure a step; step got {len(closures)}")
        step.gradient(closures[0])
        step.descend()

    def _check(self, name: str, value: Any) -> Any:
        if name == "steps":
            return count("steps", value, least=0)
        return nonnegative("rho", value) if name == "rho" else super()._check(name, value)

    def _method(self) -> str:
        chosen = {"when": self.when, "radius": self.ascent.radius}
        more = "".join(f", {name}={brief(value)}" for name, value in chosen.items() if value is not None)
        return super()._method()[:-1] + more + ")"

    def _details(self) -> dict[str, object]:
        return {"perturbation": self.perturbation}


def share(name: str, value: object) -> float:
    """Return a number in [0, 1]."""
    if not 0.0 <= number(name, value) <= 1.0:
        raise ValueError(f"{name} is {shown(value)}; a number between 0 and 1 is needed")
    return number(name, value)


def _is_schedule(when: object) -> TypeGuard[Schedule]:
    if when is not None and (isinstance(when, type) or not callable(when) or not hasattr(when, "numbers")):
        raise TypeError(
            f"when is {shown(when)}; Every(n), Window(...), Sometimes(p), LargeGradient() or None is needed"
        )
    return when is not None


def _first_norm(step: Step, closure: Closure) -> float:
    """Return ‖∇L(φ)‖₂, and leave the gradient for the step."""
    step.ahead(closure)
    return step.norm(step.gradients()).item()


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
