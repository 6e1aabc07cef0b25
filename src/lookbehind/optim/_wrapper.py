"""The contract that every optimizer of this package keeps, written once.

A wrapper is a real ``torch.optim.Optimizer`` around a base optimizer. Parameter groups and state are the base's own,
so schedulers, checkpoints and hooks see one optimizer. A method fills in ``update``.
"""

from __future__ import annotations

import functools
import inspect
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from operator import is_
from types import FrameType
from typing import TYPE_CHECKING, Any, Literal, TypedDict, TypeVar, overload

import torch
from torch import Tensor
from torch.nn.parameter import UninitializedParameter
from torch.optim import Optimizer
from torch.optim.optimizer import _global_optimizer_post_hooks, _global_optimizer_pre_hooks
from torch.utils._pytree import tree_map_only

from lookbehind._checks import choice, count, shown
from lookbehind._distributed import full_tensor, local_tensors
from lookbehind._tensors import copy_
from lookbehind._warning import warn
from lookbehind.optim._buffers import Buffers, Entries, split
from lookbehind.optim._chain import (
    chain,
    entries_of,
    free_key,
    given_by_user,
    is_method,
    own_keys,
    unwrap,
    with_given,
    without,
    wrappers_of,
)
from lookbehind.optim._evaluation import Closure, GradientEvaluator
from lookbehind.optim._foreign import refuse_foreign_call, unknown_attribute
from lookbehind.optim._identity import require_memory_of_their_own
from lookbehind.optim._rollback import Rollback, stateful, uninterrupted, without_grad
from lookbehind.optim._step import Group, Step

if TYPE_CHECKING:
    from torch.amp.grad_scaler import GradScaler

T = TypeVar("T")
Groups = list[tuple[Group, list[Tensor]]]


class WrapperOptions(TypedDict, total=False):
    """The options of all optimizers of this package; ``AscentOptions`` says what they mean."""

    nonfinite: Literal["propagate", "skip", "raise"]
    rollback: Literal["weights", "full"]


# Options that are checked whenever they are set, with what is allowed.
CHOICES = {
    "nonfinite": ("propagate", "skip", "raise"),
    "rollback": ("weights", "full"),
    "same_dropout": (True, False),
}


class OptimizerWrapper(Optimizer):
    """A base optimizer with more than one gradient, or more than one set of weights, a step.

    A constructor ends with ``self._wrap()``: until then the base is as it was.

    Args:
        base: the optimizer instance that makes the descent steps.
        entries: numbers that are kept in each parameter group, with defaults (``rho``, ``alpha``, counters).
        **options: see ``AscentOptions``.

    """

    takes = frozenset(WrapperOptions.__annotations__)
    needs_closure = True
    returns_clean_loss = True  # whether the first evaluation of a step is at the unperturbed weights
    base_steps_last = False  # whether the base optimizer moves only when all gradients of a step are known
    moves_after_base = False  # whether a step moves the weights once more after the base optimizer's
    follows_weights = False  # whether it takes a move between its steps for a change from outside
    last_step_skipped = False

    def __new__(cls, *args: Any, **options: Any) -> Any:
        """Refuse the calls of other packages by a sentence that shows the right one."""
        refuse_foreign_call(cls, args, options)
        return super().__new__(cls)

    def __init__(self, base: Optimizer, entries: Mapping[str, float], **options: Any) -> None:
        if unknown := sorted(options.keys() - self.takes):
            raise TypeError(
                f"{type(self).__name__} has no option {unknown[0]}; beside those of its signature it has "
                f"{', '.join(sorted(self.takes))}"
            )
        model = options.get("model")
        if model is not None and not isinstance(model, torch.nn.Module):
            raise TypeError(f"model is {shown(model)}; a torch.nn.Module or None is needed")
        self.base = base
        self.model = model
        self.nonfinite = options.get("nonfinite", "propagate")
        self.rollback = options.get("rollback", "weights")
        self.same_dropout = options.get("same_dropout", False)
        owner = type(self).__name__.lower()
        # Adadelta has a `rho` of its own, RMSprop, ASGD and an inner Lookahead an `alpha`: theirs keep the name.
        taken = set(base.defaults) | entries_of(base)
        self._keys = {name: free_key(name, owner, taken) for name in (*entries, "method")}
        self._entries: dict[str, Any] = {self._keys[name]: value for name, value in entries.items()}
        depth = sum(type(o).__name__.lower() == owner for o in chain(base))
        self._places: list[int] = []
        self._passed: list[object] = []
        self._taken: Entries = {}  # what the base must not see while it steps
        self._buffers = Buffers(base, f"{owner}{depth + 1 if depth else ''}_")

    def _wrap(self) -> None:
        """Check everything, then put this optimizer's entries into the base's groups."""
        if self.moves_after_base and (
            inner := next((o for o in chain(self.base) if getattr(o, "follows_weights", False)), None)
        ):
            own, other = type(self).__name__, type(inner).__name__
            raise ValueError(
                f"{own} moves the weights after its base's step, and a {other} inside would begin anew each time; "
                f"write {other}({own}(base, ...), ...)"
            )
        self._entries |= {self._keys["method"]: self._method(), "skipped_steps": 0}
        groups = self.base.param_groups
        wishes = [
            {key: value for key, value in own.items() if key in self._entries} for own in given_by_user(self.base)
        ]
        checked = [self._checked_entries({**self._entries, **wish}) for wish in wishes]
        params = [p for group in groups for p in group["params"]]
        require_memory_of_their_own(params, self._name_of)
        if self.model is not None and set(params).isdisjoint(self.model.parameters()):
            warn(
                f"model has none of the parameters of this {type(self).__name__}, so other running statistics than "
                "those of the trained model are kept; pass the module whose parameters the base has"
            )
        unwrap(self.base)
        # Not Optimizer.__init__: it would make groups and state of its own, and these are the base's.
        super().__setstate__({"defaults": {**self.base.defaults, **self._entries}})
        for group, wish, entries in zip(groups, wishes, checked, strict=True):
            group.update(with_given(wish) | entries)
        self._passed = self._present_entries()
        self.base.__dict__["_wrapped_by"] = self
        changeable = {"self", "base", "options", "model", "nonfinite", "rollback", "same_dropout"}
        ours = next(kind for kind in type(self).__mro__ if kind.__module__.startswith("lookbehind."))
        self._fixed = frozenset({*inspect.signature(ours).parameters, *self.takes} - changeable)  # not of a subclass

    # --- one optimizer with the base ---------------------------------------------------------------------------

    @property
    def param_groups(self) -> list[Group]:
        """The base optimizer's groups, with this optimizer's entries in each."""
        return self.base.param_groups

    @param_groups.setter
    def param_groups(self, groups: list[Group]) -> None:
        self.base.param_groups = groups

    @property
    def state(self) -> Any:
        """The base optimizer's state, with this optimizer's saved tensors in it."""
        return self.base.state

    @state.setter
    def state(self, state: Any) -> None:
        self.base.state = state

    @property
    def skipped_steps(self) -> int:
        """Steps that ``nonfinite="skip"`` has skipped so far."""
        return int(self._entry("skipped_steps", 0))

    @property
    def _step_supports_amp_scaling(self) -> bool:
        """``GradScaler.step`` reads this: it hands itself to a step with several gradients, which it cannot unscale."""
        return self.needs_closure

    def __setattr__(self, name: str, value: Any) -> None:
        if name in self.__dict__.get("_fixed", ()):
            owner, key = type(self).__name__, self._keys.get(name)
            right = (
                f'group["{key}"] = ... for each group in optimizer.param_groups' if key else f"build the {owner} anew"
            )
            raise AttributeError(f"{name} of a {owner} is not changed by setting an attribute; write {right}")
        super().__setattr__(name, choice(name, value, CHOICES[name]) if name in CHOICES else value)

    def __getattr__(self, name: str) -> Any:
        # Schedule-free bases have two modes, which Accelerate switches. A Lookahead inside has slow weights.
        if name in ("train", "eval", "slow_weights") and hasattr(self.__dict__.get("base"), name):
            return getattr(self.base, name)
        raise AttributeError(unknown_attribute(type(self).__name__, name), name=name, obj=self)

    def group_key(self, name: str) -> str:
        """Return the key of ``rho`` or ``alpha`` in the parameter groups.

        It is the name itself, unless the base optimizer has an entry of that name (Adadelta's ``rho``, RMSprop's and
        ASGD's ``alpha``): then the name is prefixed, as in ``"lookbehind_alpha"``.

        Raises:
            KeyError: if this optimizer keeps nothing of that name in its groups.

        """
        return self._keys[name]

    def add_param_group(self, param_group: Group) -> None:
        """Add a group to the base optimizer, with ``rho`` and ``alpha`` of its own or by default."""
        if isinstance(param_group, dict):
            self._checked_entries({**self._entries, **param_group})  # before anything is added
        self.base.add_param_group(param_group)
        group = self.param_groups[-1]
        wish = {key: group[key] for key in self._entries if key in group}
        group.update(with_given(wish) | self._checked_entries({**self._entries, **wish}))

    def _checked_entries(self, group: Group) -> Group:
        """Return this optimizer's entries of a group, as plain numbers; raise if one is not allowed."""
        checked = {key: group[key] for key in self._entries}
        for name, key in self._keys.items():
            checked[key] = self._check(name, group[key])
        checked["skipped_steps"] = count("skipped_steps", group["skipped_steps"], least=0)
        return checked

    def _check(self, name: str, value: Any) -> Any:
        """Return the value of an entry, or raise if it is not allowed."""
        return value

    def _entry(self, key: str, default: Any) -> Any:
        groups = self.param_groups
        return groups[0].get(key, default) if groups else default

    def _set(self, key: str, value: Any) -> None:
        for group in self.param_groups:
            group[key] = value

    def _details(self) -> dict[str, object]:
        """Return what makes two optimizers of one class different methods, beside the entries of the groups."""
        return {}

    def _method(self) -> str:
        """Return the name of the method, as ``repr`` shows it and a checkpoint keeps it."""
        details = ", ".join(f"{name}={brief(value)}" for name, value in self._details().items())
        return f"{type(self).__name__}({details})"

    def __repr__(self) -> str:
        groups = super().__repr__().partition("\n")[2]
        names = (o._method() if isinstance(o, OptimizerWrapper) else type(o).__name__ for o in chain(self))
        return f"{' around '.join(names)} (\n{groups}"

    # --- checkpoints and copies --------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """Return the base optimizer's ``state_dict`` with this optimizer's entries and saved tensors in it.

        Raises:
            RuntimeError: within a step, in the closure or a hook of the base: it would hold half a step.

        """
        self._require_no_step("state_dict was called")
        self._give_back()
        for pre_hook in self._optimizer_state_dict_pre_hooks.values():
            pre_hook(self)
        state_dict = self.base.state_dict()
        for post_hook in self._optimizer_state_dict_post_hooks.values():
            changed = post_hook(self, state_dict)
            state_dict = state_dict if changed is None else changed
        return state_dict

    def base_state_dict(self) -> dict[str, Any]:
        """Return the base optimizer's ``state_dict`` without anything of this optimizer's, or of one around it.

        Any optimizer around such a base loads it. It is how training goes on with another method, or another ``k``.
        """
        state_dict = self.base.state_dict()
        state, groups = state_dict["state"], state_dict["param_groups"]
        for wrapper in wrappers_of(self.base):
            state = split(state, wrapper._buffers.prefix)[1]
            groups = [without(group, wrapper._entries) for group in groups]
        return {**state_dict, "state": state, "param_groups": groups}

    @without_grad
    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load what ``state_dict`` returned; a state of the bare base optimizer is welcome too.

        Raises:
            ValueError: if the parameter groups do not fit, a number is not allowed, or the state is of another method.
                The optimizer is then as it was.

        """
        state_dict = dict(state_dict)
        for pre_hook in self._optimizer_load_state_dict_pre_hooks.values():
            changed = pre_hook(self, state_dict)
            state_dict = state_dict if changed is None else changed
        self._load(state_dict)
        for post_hook in self._optimizer_load_state_dict_post_hooks.values():
            post_hook(self)

    def _load(self, state_dict: dict[str, Any]) -> None:
        groups = state_dict["param_groups"]
        self._require_same_method(groups)
        ours = own_keys(self._entries)
        loaded = [{key: value for key, value in group.items() if key in ours} for group in groups]
        checked = [self._checked_entries({**self._entries, **entries}) for entries in loaded]
        # Tensors that were loaded or copied in inference mode could not be written to later.
        state = tree_map_only(Tensor, lambda t: t.clone() if t.is_inference() else t, state_dict["state"])
        own, rest = split(state, self._buffers.prefix)
        params = dict(_indexed(state_dict, self.param_groups))
        for index, tensors in own.items():
            for name, tensor in tensors.items():
                if index in params and tensor.shape != params[index].shape:
                    raise ValueError(
                        f"{name} of {self._name_of(params[index])} has shape {tuple(tensor.shape)} in the state to "
                        f"load; {tuple(params[index].shape)} is needed"
                    )
        current = [
            self._entries | {key: value for key, value in group.items() if key in ours} for group in self.param_groups
        ]
        bare = [without(group, self._entries) for group in groups]
        self.base.load_state_dict({**state_dict, "state": rest, "param_groups": bare})
        for group, before, entries, values in zip(self.param_groups, current, loaded, checked, strict=True):
            group.update(before | {key: values.get(key, value) for key, value in entries.items()})
        self._set(self._keys["method"], self._method())
        self._buffers.put(
            {
                params[index]: {name: t.detach().to(params[index].device, copy=True) for name, t in tensors.items()}
                for index, tensors in own.items()
                if index in params
            }
        )

    def _require_same_method(self, groups: Sequence[Group]) -> None:
        """Raise if a state was saved by another method, or by this one with other options."""
        mine = {o._keys["method"]: o._method() for o in chain(self) if isinstance(o, OptimizerWrapper)}
        for key, saved in groups[0].items() if groups else ():
            if is_method(key, saved) and mine.get(key) != saved:
                raise ValueError(
                    f"the state was saved by {saved}; this is {self._method()}. Make the optimizer like the one that "
                    "saved it, or give this one the other's base_state_dict()"
                )

    def __getstate__(self) -> dict[str, Any]:
        """Return what deepcopy and pickle keep: all but hooks, and a scheduler's hold on ``step``."""
        dropped = ("step", "_wrapped_by", "_places", "_passed")
        return {"_places": [], "_passed": []} | {
            k: v for k, v in self.__dict__.items() if k not in dropped and not k.startswith("_optimizer_")
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self.base.__dict__.setdefault("_wrapped_by", self)  # a shallow copy leaves the base to the original

    # --- one step ----------------------------------------------------------------------------------------------

    @staticmethod
    def profile_hook_step(func: Callable[..., Any]) -> Callable[..., Any]:
        """Wrap ``step`` for profilers and hooks, as torch does; without either, a step does not pay for them."""
        hooked = Optimizer.profile_hook_step(func)

        @functools.wraps(func)
        def step(self: OptimizerWrapper, *args: Any, **options: Any) -> Any:
            own = self._optimizer_step_pre_hooks or self._optimizer_step_post_hooks
            of_all = _global_optimizer_pre_hooks or _global_optimizer_post_hooks
            watched = own or of_all or torch._C._autograd._profiler_enabled()
            return (hooked if watched else func)(self, *args, **options)

        return step

    @overload
    def step(self, closure: None = None, *, grad_scaler: GradScaler | None = None) -> None: ...

    @overload
    def step(self, closure: Callable[[], T], *, grad_scaler: GradScaler | None = None) -> T: ...

    @without_grad
    def step(self, closure: Any = None, *, grad_scaler: GradScaler | None = None) -> Any:
        """Do one step of the method.

        Args:
            closure: an ordinary closure: zero the gradients, run forward and backward, return the loss. It is called
                first at the unperturbed weights, then as often as the method needs.
            grad_scaler: the ``torch.amp.GradScaler`` whose ``scale(loss).backward()`` the closure calls. Every gradient
                is unscaled and checked. If one overflows, the step is skipped as if it had not been, and
                ``grad_scaler.update()``, which remains the caller's, shrinks the scale.

        Returns:
            The loss at the unperturbed weights: a copy of what the closure returned first.

        Raises:
            TypeError: if the closure is missing or cannot be called.
            ValueError: if a number in a parameter group is not allowed, or two parameters share their memory.
            NonfiniteGradientError: with ``nonfinite="raise"``, if a gradient is not finite.
            BaseException: what the closure or the base optimizer raises; the weights are then those of before.

        """
        self._require_no_step("step was called")
        if closure is None and self._is_probe():
            return self._probe()
        closures = self._closures(closure)
        if grad_scaler is None and "found_inf" in self.__dict__:  # GradScaler.step puts it there and hands on no scaler
            raise TypeError(
                f"a GradScaler steps this {type(self).__name__} through something that hides the scaler, so its "
                "gradients would not be unscaled; call optimizer.step(closure, grad_scaler=scaler) and scaler.update()"
            )
        self._require_base()
        self._give_back()
        self._require_entries()
        groups, left_out = self._taking_part()
        evaluator = self._evaluator(groups, grad_scaler)
        if closures and any(type(p) is UninitializedParameter for p in left_out):
            evaluator.ahead(closures[0])
            groups, left_out = self._taking_part()
            evaluator.found([p for _, params in groups for p in params])
        evaluator.places = self._require_memory(evaluator.params)
        self._prepare(evaluator.params)
        step, rollback = self._begin(evaluator, groups, left_out)
        if self.last_step_skipped:
            self.last_step_skipped = False
        try:
            self._take(step, closures)
            evaluator.finish()
            return evaluator.loss
        except BaseException as error:
            uninterrupted(self._give_back)  # Ctrl-C can keep a `finally` from its work
            uninterrupted(rollback.restore)
            evaluator.give_back()
            if error is not evaluator.overflow or not self._skips(evaluator):
                evaluator.forget_unscaled()
                raise
            self.last_step_skipped = True
            evaluator.finish()
            if evaluator.scaler is None:
                self._set("skipped_steps", self.skipped_steps + 1)
            return evaluator.loss

    def _take(self, step: Step, closures: Sequence[Closure]) -> None:
        self.update(step, closures)

    def update(self, step: Step, closures: Sequence[Closure]) -> None:
        """Do what the method does in one step. Each method fills this in.

        Args:
            step: all that it may touch: parameters, their values before the step, gradients, the base optimizer.
            closures: one closure, or one for each inner step.

        """
        raise TypeError(f"{type(self).__name__} is no optimizer by itself; use SAM, MultistepSAM, Lookahead, ...")

    def _hide(self) -> None:
        """Let the model hold the weights that training goes on from."""

    def _require_no_step(self, what: str) -> None:
        """Raise within a step of this optimizer: its weights are perturbed then, and what it keeps is in use."""
        here: FrameType | None = sys._getframe(2)  # the call stack tells; a note of ours might outlive Ctrl-C
        while here is not None:
            if id(here.f_code) in STEPS and here.f_locals.get("self") is self:
                raise RuntimeError(
                    f"{what} within a step of this {type(self).__name__}, in its closure or a hook; call it after "
                    "optimizer.step(closure)"
                )
            here = here.f_back

    def _prepare(self, params: list[Tensor]) -> None:
        """Do what must be done before a step reads the weights."""

    def _begin(self, evaluator: GradientEvaluator, groups: Groups, left_out: Sequence[Tensor]) -> tuple[Step, Rollback]:
        for inner in chain(self.base):
            if isinstance(inner, OptimizerWrapper):
                inner._hide()
        params = evaluator.params
        start = self._buffers.scratch("start", params)
        copy_(start, params)
        full = self.rollback == "full" or (self._skips(evaluator) and self._state_moves_first())
        rollback = Rollback(
            params,
            start,
            evaluator.statistics,
            self.param_groups,
            self._entries,
            base=self.base if full else None,
            random=self.rollback == "full",
        )
        step = Step(
            params,
            groups,
            left_out=left_out,
            buffers=self._buffers,
            evaluator=evaluator,
            rollback=rollback,
            start=start,
            base_step=self._base_step,
            model=self.model,
        )
        return step, rollback

    def _evaluator(self, groups: Groups, grad_scaler: GradScaler | None) -> GradientEvaluator:
        return GradientEvaluator(
            [p for _, params in groups for p in params],
            name=type(self).__name__,
            name_of=self._name_of,
            model=self.model,
            nonfinite=self.nonfinite,
            same_dropout=self.same_dropout,
            scaler=grad_scaler,
            optimizers=lambda: list(stateful(self)),
        )

    def _taking_part(self) -> tuple[Groups, list[Tensor]]:
        """Return the groups, each with its parameters that a step may move; and the parameters that it leaves out."""
        groups: Groups = []
        left_out: list[Tensor] = []
        for group in self.param_groups:
            params = list(filter(takes_part, group["params"]))
            groups.append((group, params))
            if len(params) < len(group["params"]):
                left_out += [p for p in group["params"] if not takes_part(p)]
        return groups, left_out

    def _base_step(self, closure: Closure | Sequence[Closure] | None = None) -> None:
        """Let the base step, without seeing this optimizer's tensors in its state."""
        try:
            self._buffers.take(self._taken)
            self.base.step(closure) if closure is not None else self.base.step()  # type: ignore[arg-type]
        finally:
            uninterrupted(self._give_back)

    def _give_back(self) -> None:
        """Let the base's state have this optimizer's tensors again."""
        if self._taken:
            self._buffers.put(self._taken)
            self._taken = {}

    def _state_moves_first(self) -> bool:
        """Return whether any state changes before all gradients of a step are known, so that a skip must undo it."""
        return not self.base_steps_last

    def _skips(self, evaluator: GradientEvaluator) -> bool:
        return self.nonfinite == "skip" or evaluator.scaler is not None

    def _closures(self, closure: Any) -> Sequence[Closure]:
        """Return the closures of a step as a sequence."""
        if not callable(closure):
            raise TypeError(
                f"{type(self).__name__}.step got {shown(closure)}; it needs a closure that zeroes the gradients, runs "
                "forward and backward and returns the loss: optimizer.step(closure), under a GradScaler "
                "optimizer.step(closure, grad_scaler=scaler)"
            )
        return [closure]

    def _require_base(self) -> None:
        """Raise if the base was wrapped again: two wrappers would read each other's numbers."""
        outer = self.base.__dict__.get("_wrapped_by")
        if outer is None:
            raise RuntimeError(
                f"the base of this {type(self).__name__} is another one than it was built around; build it anew: "
                f"{type(self).__name__}(base, ...)"
            )
        if outer is not self:
            raise RuntimeError(
                f"the base of this {type(self).__name__} was wrapped again since, by {type(outer).__name__}; use that "
                "one, or give each a base of its own"
            )

    def _require_memory(self, params: list[Tensor]) -> list[int]:
        """Return where parameters are; raise if they share memory. It is looked at anew when one has moved."""
        places = [t.data_ptr() for t in local_tensors(params)]
        if places != self._places:
            require_memory_of_their_own(params, self._name_of)
            self._places = places
        return places

    def _require_entries(self) -> None:
        """Raise if somebody has put a number into a group that is not allowed. Give new groups their entries."""
        now = self._present_entries()
        if len(now) == len(self._passed) and all(map(is_, now, self._passed)):  # no other number since the last step
            return
        size, method = len(self._entries), self._keys["method"]
        loaded = not any(method in group for group in self.param_groups)  # by the base, from a state of its own
        for i, group in enumerate(self.param_groups):
            if loaded and (before := self._passed[i * size : (i + 1) * size]):
                group.update(zip(self._entries, before, strict=True))
            elif method not in group:  # added to the base: what it has of ours was given
                group.update(with_given({key: group[key] for key in self._entries if key in group}))
            for key, default in self._entries.items():
                group.setdefault(key, default)
            for name, key in self._keys.items():
                checked = self._check(name, group[key])
                if checked is not group[key]:
                    group[key] = checked
        self._passed = self._present_entries()

    def _present_entries(self) -> list[object]:
        return [value for group in self.param_groups for value in map(group.get, self._entries)]

    def _is_probe(self) -> bool:
        """Return whether this is ``torch.distributed.checkpoint``, which makes the state by a step that moves nothing.

        It sets learning rates and all gradients to zero. A warmup from 0 has gradients, and is a step like any other.
        """
        if self.state or any(group.get("lr") != 0 for group in self.param_groups):
            return False
        gradients = [p.grad for group in self.param_groups for p in group["params"] if p.requires_grad]
        return all(g is not None for g in gradients) and not any(
            bool(full_tensor(g).any()) for g in gradients if g is not None
        )

    def _probe(self) -> None:
        """Make the state that a first step would make."""
        self.base.step()

    def _name_of(self, parameter: Tensor) -> str:
        """Return a parameter's name in the model or the base optimizer, or its place in the groups."""
        for name, named in self.model.named_parameters() if self.model is not None else ():
            if named is parameter:
                return name
        for i, group in enumerate(self.param_groups):
            for j, p in enumerate(group["params"]):
                if p is parameter:
                    return str(group["param_names"][j]) if "param_names" in group else f"parameter {j} of group {i}"
        return "a parameter"


# Code of functions that perturb, by id: the hash of a code object goes through all of it.
STEPS = {id(OptimizerWrapper.step.__wrapped__.__code__)}  # type: ignore[attr-defined]


def steps_by_closure(base: Optimizer) -> bool:
    """Return whether an optimizer's step needs a closure."""
    if getattr(base, "needs_closure", False) or isinstance(base, torch.optim.LBFGS):
        return True
    closure = inspect.signature(base.step).parameters.get("closure")
    return closure is not None and closure.default is inspect.Parameter.empty


def takes_part(p: Tensor) -> bool:
    """Return whether a step may move a parameter."""
    return (p.requires_grad or p.grad is not None) and type(p) is not UninitializedParameter


def brief(value: object) -> str:
    """Return how a method's name shows one of its options. An address in it would change from process to process."""
    if isinstance(value, partial):
        given = [*map(brief, value.args), *(f"{name}={brief(one)}" for name, one in value.keywords.items())]
        return f"partial({', '.join([brief(value.func), *given])})"
    if callable(value) and isinstance(name := getattr(value, "__qualname__", None), str):
        return name
    if type(value).__repr__ is object.__repr__:
        return type(value).__name__
    return re.sub(r" at 0x[0-9a-fA-F]+", "", repr(value))


def _indexed(state_dict: dict[str, Any], groups: list[Group]) -> list[tuple[Any, Tensor]]:
    """Pair the indices of a state_dict with the parameters that they stand for."""
    indices = [index for group in state_dict["param_groups"] for index in group["params"]]
    return list(zip(indices, [p for group in groups for p in group["params"]], strict=False))
