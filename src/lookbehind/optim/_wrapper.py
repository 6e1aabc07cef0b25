"""The contract that every optimizer of this package keeps, written once.

A wrapper is a real ``torch.optim.Optimizer`` around a base optimizer. Parameter groups and state are the base's own,
so schedulers, checkpoints and hooks see one optimizer. An algorithm fills in one method, ``_update``.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn.modules.batchnorm import _NormBase
from torch.optim import Optimizer
from torch.optim.optimizer import _global_optimizer_post_hooks, _global_optimizer_pre_hooks

from lookbehind._checks import choice
from lookbehind._distributed import full_tensor
from lookbehind.optim._memory import Places
from lookbehind.optim._passes import Closure, Face, NonfiniteGradientError, Passes
from lookbehind.optim._snapshot import Snapshot, uninterrupted, without_grad

if TYPE_CHECKING:
    from torch.amp.grad_scaler import GradScaler

Group = dict[str, Any]


class Wrapper(Optimizer):
    """A base optimizer with more than one gradient, or more than one set of weights, a step.

    Args:
        base: the optimizer instance that makes the descent steps.
        entries: what this optimizer keeps in each parameter group, with defaults (``rho``, ``alpha``, counters).
        model: the module whose BatchNorm statistics shall follow the unperturbed pass only.
        nonfinite: "propagate", "skip" or "raise".
        rollback: "weights" or "full".

    """

    needs_closure = True
    base_moves_last = False  # whether the base optimizer moves only when all gradients of a step are known
    last_step_skipped = False

    def __init__(
        self,
        base: Optimizer,
        entries: Mapping[str, float],
        *,
        model: torch.nn.Module | None,
        nonfinite: str,
        rollback: str,
    ) -> None:
        if not isinstance(base, Optimizer):
            raise TypeError(f"base is {base!r}; an instance of torch.optim.Optimizer is needed, such as SGD(...)")
        if model is not None and not isinstance(model, torch.nn.Module):
            raise TypeError(f"model is {model!r}; a torch.nn.Module or None is needed")
        self.base = base
        self.model = model
        self.nonfinite = choice("nonfinite", nonfinite, ("propagate", "skip", "raise"))
        self.rollback = choice("rollback", rollback, ("weights", "full"))
        # Adadelta has a `rho` of its own, RMSprop, ASGD and an inner Lookahead an `alpha`: theirs keep the name.
        self._keys = {name: _free_key(name, type(self).__name__, base.defaults) for name in entries}
        self._entries = {self._keys[name]: value for name, value in entries.items()} | {"skipped_steps": 0}
        self._scratch: dict[str, dict[Tensor, Tensor]] = {}
        self._places: Places | None = None  # where the weights are in memory, while they may be elsewhere
        self._faces: list[Face] = []
        self._failed_faces: list[Face] = []
        # Not Optimizer.__init__: it would make groups and state of its own, and these are the base's.
        super().__setstate__({"defaults": {**base.defaults, **self._entries}})
        for group in self.param_groups:
            self._adopt(group)

    # --- one optimizer with the base ---------------------------------------------------------------------------

    @property
    def param_groups(self) -> list[Group]:  # type: ignore[override]
        """The base optimizer's groups, with this optimizer's entries in each."""
        return self.base.param_groups

    @property
    def state(self) -> Any:  # type: ignore[override]
        """The base optimizer's state."""
        return self.base.state

    @property
    def skipped_steps(self) -> int:
        """Steps that ``nonfinite="skip"`` has skipped so far."""
        return int(self.param_groups[0]["skipped_steps"])

    @property
    def _step_supports_amp_scaling(self) -> bool:
        """What ``GradScaler.step`` reads before it steps: it would unscale the first gradient only, and say nothing."""
        if self.needs_closure:
            raise TypeError(
                f"{type(self).__name__} takes several gradients a step, and GradScaler.step unscales one; call "
                "optimizer.step(closure, grad_scaler=scaler) and scaler.update()"
            )
        return False

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
            self._adopt(dict(param_group))  # check before anything is added
        self.base.add_param_group(param_group)
        self._adopt(self.param_groups[-1])

    def _adopt(self, group: Group) -> None:
        """Give a group the entries that it lacks, and check those that it has."""
        for key, default in self._entries.items():
            group.setdefault(key, default)
        for name, key in self._keys.items():
            group[key] = self._check(name, group[key])

    def _check(self, name: str, value: Any) -> Any:
        """Return the value of an entry, or raise if it is not allowed."""
        return value

    def state_dict(self) -> dict[str, Any]:
        """Return the base optimizer's ``state_dict`` with this optimizer's entries and state in it."""
        for pre_hook in self._optimizer_state_dict_pre_hooks.values():
            pre_hook(self)
        state_dict = self._pack(self.base.state_dict())
        for post_hook in self._optimizer_state_dict_post_hooks.values():
            changed = post_hook(self, state_dict)
            state_dict = state_dict if changed is None else changed
        return state_dict

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load what ``state_dict`` returned; a state of the bare base optimizer is welcome too.

        Raises:
            ValueError: if the parameter groups do not fit.

        """
        state_dict = dict(state_dict)
        for pre_hook in self._optimizer_load_state_dict_pre_hooks.values():
            changed = pre_hook(self, state_dict)
            state_dict = state_dict if changed is None else changed
        current = [{key: group[key] for key in self._entries} for group in self.param_groups]
        self._unpack(state_dict)
        for group, entries in zip(self.param_groups, current, strict=True):
            for key, value in entries.items():
                group.setdefault(key, value)
        for post_hook in self._optimizer_load_state_dict_post_hooks.values():
            post_hook(self)

    def _pack(self, state_dict: dict[str, Any]) -> dict[str, Any]:
        """Put this optimizer's own state into the base's."""
        return state_dict

    def _unpack(self, state_dict: dict[str, Any]) -> None:
        """Load this optimizer's own state, and the base's."""
        self.base.load_state_dict(state_dict)

    def __getstate__(self) -> dict[str, Any]:
        """Return what deepcopy and pickle keep: all but hooks, a scheduler's hold on ``step``, and scratch tensors."""
        dropped = ("step", "_parts", "_weights", "_passes")
        state = {k: v for k, v in self.__dict__.items() if k not in dropped and not k.startswith("_optimizer_")}
        return state | {"_scratch": {}, "_places": None, "_faces": [], "_failed_faces": []}

    # --- one step ----------------------------------------------------------------------------------------------

    @staticmethod
    def profile_hook_step(func: Callable[..., Any]) -> Callable[..., Any]:
        """Wrap ``step`` for profilers and hooks, as torch does; without either, a step does not pay for them."""
        hooked = Optimizer.profile_hook_step(func)

        @functools.wraps(func)
        def step(self: Wrapper, *args: Any, **options: Any) -> Any:
            own = (self._optimizer_step_pre_hooks, self._optimizer_step_post_hooks)
            of_all = (_global_optimizer_pre_hooks, _global_optimizer_post_hooks)
            watched = any(own + of_all) or torch._C._autograd._profiler_enabled()
            return (hooked if watched else func)(self, *args, **options)

        return step

    @without_grad
    def step(self, closure: Any = None, *, grad_scaler: GradScaler | None = None) -> Any:
        """Do one step of the algorithm.

        Args:
            closure: an ordinary closure: zero the gradients, run forward and backward, return the loss. It is called
                first at the unperturbed weights, then as often as the algorithm needs.
            grad_scaler: the ``torch.amp.GradScaler`` whose ``scale(loss).backward()`` the closure calls. Every pass is
                unscaled and checked; if one overflows, the step is skipped as if it had not been, and
                ``grad_scaler.update()``, which remains the caller's, shrinks the scale.

        Returns:
            The loss at the unperturbed weights.

        Raises:
            TypeError: if the closure is missing or cannot be called.
            NonfiniteGradientError: with ``nonfinite="raise"``, if a gradient is not finite.
            BaseException: what the closure or the base optimizer raises; the weights are then those of before.

        """
        if closure is None and self._is_probe():
            return self.base.step()
        closures = self._closures(closure)
        self._passes = passes = Passes(grad_scaler)
        before = self._snapshot()
        self.last_step_skipped = False
        try:
            self._update(closures, before.copies)
            self._places = None
            return passes.loss
        except BaseException as error:
            uninterrupted(before.restore)
            overflow = isinstance(error, NonfiniteGradientError)
            if not (overflow and (self.nonfinite == "skip" or passes.scaler is not None)):
                # A GradScaler remembers the faces until its next update, so a retry needs others; these stay alive,
                # lest their identities are given away again.
                self._failed_faces += self._faces
                self._faces = []
                raise
            self.last_step_skipped = True
            if passes.scaler is None:
                self._set("skipped_steps", self.skipped_steps + 1)
            return passes.loss

    def _update(self, closures: Sequence[Closure], slow: list[Tensor]) -> None:
        """Do what the algorithm does in one step.

        Args:
            closures: one closure, or one for each inner step.
            slow: a copy of the weights at the start of the step, which must be left as it is.

        """
        raise TypeError(f"{type(self).__name__} is no optimizer by itself; use SAM, MultistepSAM, Lookahead, ...")

    def _closures(self, closure: Any) -> Sequence[Closure]:
        """Return the closures of a step as a sequence."""
        if not callable(closure):
            raise TypeError(
                f"{type(self).__name__}.step got {closure!r}; it needs a closure that zeroes the gradients, runs "
                "forward and backward and returns the loss: optimizer.step(closure)"
            )
        return [closure]

    def _is_probe(self) -> bool:
        """Whether this is ``torch.distributed.checkpoint``, which makes the state by a step that moves nothing.

        It sets learning rates and gradients to zero. A warmup from 0 has gradients, and is a step like any other.
        """
        if self.state or any(group.get("lr") != 0 for group in self.param_groups):
            return False
        gradients = [p.grad for group in self.param_groups for p in group["params"] if p.grad is not None]
        return self.needs_closure or not any(bool(full_tensor(g).any()) for g in gradients)

    def _snapshot(self) -> Snapshot:
        self._parts = [
            (group, [p for p in group["params"] if p.requires_grad or p.grad is not None])
            for group in self.param_groups
        ]
        self._weights = [p for _, weights in self._parts for p in weights]
        # After a skip training goes on as if nothing had been, so the base optimizer must not remember the step either.
        skipping = self.nonfinite == "skip" or self._passes.scaler is not None
        full = self.rollback == "full" or (skipping and not self.base_moves_last)
        return Snapshot(self, full=full)

    def _like(self, name: str, tensors: list[Tensor]) -> list[Tensor]:
        """Return tensors to write to, of the same shapes, kept from step to step under a name."""
        held = self._scratch.setdefault(name, {})
        kept = [held.get(t) for t in tensors]
        for i, (t, k) in enumerate(zip(tensors, kept, strict=True)):
            if k is None or k.shape != t.shape or k.dtype is not t.dtype or k.device != t.device:
                kept[i] = held[t] = torch.empty_like(t, requires_grad=False)
        return kept  # type: ignore[return-value]

    def _gradient(self, closure: Closure, *, perturbed: bool, local: bool = False) -> Any:
        """Leave the gradient at the weights that the model holds in ``.grad``; return the loss."""
        return self._passes.gradient(self, closure, perturbed=perturbed, local=local)

    def _statistics(self) -> list[Tensor]:
        """Return the running statistics of the model's normalisation layers."""
        modules = self.model.modules() if self.model is not None else ()
        return [buffer for module in modules if isinstance(module, _NormBase) for buffer in module.buffers(False)]

    def _face(self, number: int) -> Face:
        """Return the optimizer as a ``GradScaler`` sees it in one pass."""
        while len(self._faces) <= number:
            self._faces.append(Face(self.base))
        return self._faces[number]

    def _name(self, parameter: Tensor) -> str:
        """Return a parameter's name in the model or the base optimizer, or its place in the groups."""
        for name, named in self.model.named_parameters() if self.model is not None else ():
            if named is parameter:
                return name
        for i, group in enumerate(self.param_groups):
            for j, p in enumerate(group["params"]):
                if p is parameter:
                    return str(group["param_names"][j]) if "param_names" in group else f"parameter {j} of group {i}"
        return "a parameter"

    def _set(self, key: str, value: Any) -> None:
        for group in self.param_groups:
            group[key] = value


def steps_by_closure(base: Optimizer) -> bool:
    """Whether an optimizer's step needs a closure."""
    return getattr(base, "needs_closure", False) or isinstance(base, torch.optim.LBFGS)


def _free_key(name: str, owner: str, taken: Mapping[str, Any]) -> str:
    key = name
    while key in taken:
        key = f"{owner.lower()}_{key}"
    return key
